"""Two candidates drawn at random, and the one with fewer unfinished requests for its weight: O(1) for any number.

Nearly as good as looking at everyone (Mitzenmacher; Envoy's least request does it), and better where several load
balancers stand before one group, for they do not all run to the same least loaded target at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic

from .base import CandidateT, RandomSource, with_weights
from .weighted_random import alias_table


class PowerOfTwoChoices(Generic[CandidateT]):
    """The first is drawn by weight, the second evenly among the others: cost for weight decides between them.

    A first one that costs nothing is taken as it is: nothing is less. So an idle group is used by weight exactly.
    """

    __slots__ = ("_columns", "_entries", "_random")

    def __init__(self, candidates: Iterable[CandidateT], rng: RandomSource) -> None:
        taking_part, weights = with_weights(candidates)
        self._random = rng.random
        self._entries = [(candidate, 1 / weight) for candidate, weight in zip(taking_part, weights, strict=True)]
        # As in weighted_random: (boundary, who has the column below it, who has the rest), here by place.
        self._columns = [(index + share, index, other) for index, (share, other) in enumerate(alias_table(weights))]

    def pick(self) -> CandidateT | None:
        entries = self._entries
        size = len(entries)
        if not size:
            return None
        point = self._random() * size
        boundary, below, beyond = self._columns[int(point)]
        first = below if point < boundary else beyond
        candidate, per_weight = entries[first]
        cost = self._cost(candidate)
        if cost == 0 or size == 1:
            return candidate
        other, other_per_weight = entries[(first + 1 + int(self._random() * (size - 1))) % size]
        return other if self._cost(other) * other_per_weight < cost * per_weight else candidate

    def _cost(self, candidate: CandidateT) -> float:
        return candidate.in_flight
