"""A candidate drawn at random by weight: no state, so many load balancers in front of one group do not fall in step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from .base import CandidateT, RandomSource, with_weights


class WeightedRandom(Generic[CandidateT]):
    """Walker's alias method in Vose's form: O(n) to build, one random number and one comparison to pick.

    The line from 0 to n is cut into n columns of equal width. Column i belongs to candidate i up to a boundary, and
    beyond it to one other; each candidate's pieces add up to its weight.
    """

    __slots__ = ("_columns", "_random", "_size")

    def __init__(self, candidates: Iterable[CandidateT], rng: RandomSource) -> None:
        taking_part, weights = with_weights(candidates)
        self._random = rng.random
        self._size = len(taking_part)
        # (boundary, who has the column below it, who has the rest)
        self._columns = [
            (index + share, taking_part[index], taking_part[other])
            for index, (share, other) in enumerate(alias_table(weights))
        ]

    def pick(self) -> CandidateT | None:
        if not self._columns:
            return None
        point = self._random() * self._size
        boundary, below, beyond = self._columns[int(point)]
        return below if point < boundary else beyond


def alias_table(weights: list[int]) -> list[tuple[float, int]]:
    """For each column the share of it that is its own, and whose the rest is. In integers until the last step."""
    count, full = len(weights), sum(weights)  # a column holds `full` units, and each weight is scaled by `count`
    left = [weight * count for weight in weights]
    table = [(1.0, index) for index in range(count)]
    small = [index for index in range(count) if left[index] < full]
    large = [index for index in range(count) if left[index] > full]
    while small:
        index, donor = small.pop(), large[-1]
        table[index] = (left[index] / full, donor)
        left[donor] -= full - left[index]
        if left[donor] <= full:
            large.pop()
            if left[donor] < full:
                small.append(donor)
    return table
