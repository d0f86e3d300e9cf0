"""Whether a request may be repeated, and when. Pure.

What is repeated has done its target's work twice, so it is bounded: methods that may be repeated (RFC 9110 9.2.2), a
budget per target group, and a pause drawn at random, so that those who failed together do not come back together.
"""

from __future__ import annotations

from .specs import RetrySpec

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))


class RetryBudget:
    """How many requests of a target group are out for another time at this moment, and whether one more may be."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.active = 0

    def take(self, spec: RetrySpec, in_flight: int) -> bool:
        """`in_flight` are all requests of the group. Each True is given back once."""
        if self.active >= max(spec.budget_minimum, in_flight * spec.budget_percent // 100):
            return False
        self.active += 1
        return True

    def give_back(self, count: int) -> None:
        self.active -= count


def backoff(spec: RetrySpec, attempt: int, draw: float) -> float:
    """Seconds before the `attempt`-th repetition, from 1. `draw` in [0, 1): full jitter below a bound that doubles."""
    return draw * min(spec.backoff_limit, spec.backoff * 2**attempt)
