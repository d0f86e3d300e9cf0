"""Weighted routing: who comes first is decided by weight, and everybody eligible is in the answer.

Most clients take the first record, so first places are dealt out by weight: a ring in which each instance has as many
places as its weight says, spread evenly. Whoever asks takes the ring's next place; a weight costs nothing per query.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from .order import Order

ANSWER_LIMIT = 100  # instances in one answer: DiscoverInstances' default MaxResults; all of them still get first places
RING_LIMIT = 1024  # places, when the weights themselves need more; a share is then off by at most 0.1 %


def order(weights: Sequence[int], limit: int | None = None) -> Order:
    """Weight 0 gets no first place unless all are 0, which is an equal chance for all."""
    if not any(weights):
        weights = [1] * len(weights)
    ring = _spread(_places(weights))
    standby = [index for index, weight in enumerate(weights) if not weight]
    weighted = len(weights) - len(standby)
    size = min(len(weights), limit or ANSWER_LIMIT)
    first_place = dict(zip(reversed(ring), reversed(range(len(ring))), strict=True))

    def answer(place: int) -> Sequence[int]:
        return (*_following(ring, first_place[ring[place]], min(weighted, size)), *standby)[:size]

    return Order(ring, answer, size)


def _following(ring: Sequence[int], position: int, wanted: int) -> tuple[int, ...]:
    """Who comes up on the ring from `position` on, each once: the order that weight gives the later places too."""
    seen: dict[int, None] = {}
    for place in chain(range(position, len(ring)), range(position)):
        seen[ring[place]] = None
        if len(seen) == wanted:
            break
    return tuple(seen)


def _places(weights: Sequence[int]) -> list[int]:
    """Places on the ring: the weights themselves if they are few, else in proportion, none less than one."""
    total = sum(weights)
    size = max(RING_LIMIT, len(weights))
    if total <= size:
        return list(weights)
    return [max(1, round(weight * size / total)) if weight else 0 for weight in weights]


def _spread(places: Sequence[int]) -> Sequence[int]:
    """Each index as often as it has places, at even distances: 3 and 1 become 0 0 1 0, never 0 0 0 1 by chance."""
    if set(places) <= {1}:
        return range(len(places))
    steps = [((turn + 0.5) / count, index) for index, count in enumerate(places) for turn in range(count)]
    return [index for _, index in sorted(steps)]
