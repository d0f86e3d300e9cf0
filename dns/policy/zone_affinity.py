"""Zone affinity: near instances first, for traffic between zones costs time and is billed.

Instances of the client's zone are answered alone while at least half of that zone's weight may be; below that they
would be overrun by clients who were shared out among more of them, so the region helps out, and then everybody does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..instances import Instance

ENOUGH: Final = 0.5  # of the weight that is near; Envoy's panic threshold


def near(
    instances: Sequence[Instance], meant: Sequence[Instance], zone: str, region: str
) -> tuple[str, list[Instance]]:
    """Who of `instances` is near, and what that means: "zone", "region", or "" for no difference.

    `meant` are all who would be answered if everybody were healthy: what there is to be half of.
    """
    if zone:
        own = [each for each in instances if each.spec.zone == zone]
        if _enough(own, [each for each in meant if each.spec.zone == zone]):
            return "zone", own
    if region:
        own = [each for each in instances if each.spec.region == region]
        if _enough(own, [each for each in meant if each.spec.region == region]):
            return "region", own
    return "", list(instances)


def _enough(answered: Sequence[Instance], all_of_them: Sequence[Instance]) -> bool:
    return bool(answered) and _weight(answered) >= ENOUGH * _weight(all_of_them)


def _weight(instances: Sequence[Instance]) -> int:
    return sum(each.spec.weight for each in instances) or len(instances)
