"""Every candidate in turn, as often as its weight says, and spread out rather than in runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Generic

from .base import CandidateT, RandomSource, with_weights
from .smooth_weighted import endless_turns


class RoundRobin(Generic[CandidateT]):
    """A pick is one step of an iterator written in C, when weights are equal or once the sequence is remembered."""

    __slots__ = ("_turns",)

    def __init__(self, candidates: Iterable[CandidateT], rng: RandomSource) -> None:
        taking_part, weights = with_weights(candidates)
        self._turns: Iterator[CandidateT | None] = (
            endless_turns(taking_part, weights, rng) if taking_part else repeat(None)
        )

    def pick(self) -> CandidateT | None:
        return next(self._turns)
