"""Every candidate in turn, as often as its weight says, and spread out rather than in runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Generic

from .base import CandidateT, RandomSource, with_weights
from .smooth_weighted import endless_turns


class RoundRobin(Generic[CandidateT]):
    """A pick is one step of an iterator written in C, when weights are equal or once the sequence is remembered."""

    __slots__ = ("pick",)

    def __init__(self, candidates: Iterable[CandidateT], rng: RandomSource) -> None:
        taking_part, weights = with_weights(candidates)
        turns: Iterator[CandidateT | None] = endless_turns(taking_part, weights, rng) if taking_part else repeat(None)
        self.pick = turns.__next__  # without a function of ours around it
