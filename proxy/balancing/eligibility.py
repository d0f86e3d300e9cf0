"""Who may be picked: healthy targets; failing those healthy standbys; failing those everyone (fail open, as ALB)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .base import CandidateT


def eligible(targets: Iterable[CandidateT], is_healthy: Callable[[CandidateT], bool]) -> list[CandidateT]:
    """The candidates for a balancer, in the order given. Weight 0 marks a standby.

    When nothing is healthy it is likelier that the check is wrong than that every target is, and a refusal would be
    certain: so all are tried, by their weights, which leaves standbys out unless there is nobody else.
    """
    everyone = list(targets)
    healthy = [target for target in everyone if is_healthy(target)]
    return [target for target in healthy if target.weight > 0] or healthy or everyone
