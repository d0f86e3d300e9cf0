"""The candidate with the fewest unfinished requests for its weight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from .base import CandidateT, RandomSource, with_weights
from .smooth_weighted import endless_turns


class LeastOutstanding(Generic[CandidateT]):
    """Looks at every candidate, from the one whose turn it is, and stops at an idle one: nothing is less than idle.

    At most O(n), about 40 ns a candidate. Counts change with every request and every answer, so a heap would cost
    more for the tens of targets that a group has; for thousands there is power_of_two_choices.
    Ties go by turns, weighted as in round robin, so an idle group is used by weight too (nginx's least_conn does so).
    """

    __slots__ = ("_ring", "_size", "_turns")

    def __init__(self, candidates: Iterable[CandidateT], rng: RandomSource) -> None:
        taking_part, weights = with_weights(candidates)
        pairs = [(candidate, 1 / weight) for candidate, weight in zip(taking_part, weights, strict=True)]
        self._size = len(pairs)
        self._ring = pairs * 2  # so that a scan from any start is one slice
        self._turns = endless_turns(range(len(pairs)), weights, rng) if pairs else iter(())

    def pick(self) -> CandidateT | None:
        start = next(self._turns, None)
        if start is None:
            return None
        best, per_weight = self._ring[start]
        least = best.in_flight * per_weight
        if least == 0:
            return best
        for candidate, per_weight in self._ring[start + 1 : start + self._size]:
            load = candidate.in_flight * per_weight
            if load < least:
                if load == 0:
                    return candidate
                best, least = candidate, load
        return best
