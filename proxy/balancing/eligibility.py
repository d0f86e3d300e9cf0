"""Who may be picked: healthy targets; failing those healthy standbys; failing those everyone (fail open, as ALB)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .base import CandidateT


def eligible(
    targets: Iterable[CandidateT],
    is_healthy: Callable[[CandidateT], bool],
    *,
    minimum_healthy: int = 0,
    fail_open: bool = True,
) -> list[CandidateT]:
    """The candidates for a balancer, in the order given. Weight 0 marks a standby.

    When nothing is healthy it is likelier that the check is wrong than that every target is, and a refusal would be
    certain: so all are tried, by their weights, which leaves standbys out unless there is nobody else. The same is
    done when fewer than `minimum_healthy` per cent of those with a weight are healthy: the few would only be overrun
    by what was meant for all (Envoy's panic threshold, 50 there; ALB's unhealthy_state_routing, off there as here).
    """
    everyone = list(targets)
    healthy = [target for target in everyone if is_healthy(target)]
    weighted = [target for target in healthy if target.weight > 0]
    if weighted:
        wanted = sum(target.weight > 0 for target in everyone) * minimum_healthy
        return everyone if fail_open and len(weighted) * 100 < wanted else weighted
    return healthy or (everyone if fail_open else [])
