"""In which order a name's records are answered: a ring of places, of which whoever asks gets the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Order(NamedTuple):
    """Everything by index. An answer is told by who is first in it, so no two that differ begin alike."""

    places: Sequence[int]  # who is first at each place
    answer: Callable[[int], Sequence[int]]  # by place: all who are in the answer, `size` of them
    size: int


def fixed(count: int) -> Order:
    """One order for everybody, of all there are."""
    everyone = range(count)

    def answer(_place: int) -> Sequence[int]:
        return everyone

    return Order(everyone[:1], answer, count)
