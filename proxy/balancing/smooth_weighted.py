"""The order of turns in which each item has its share, spread out rather than in runs: smooth weighted round robin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heapreplace
from itertools import cycle, islice
from math import gcd
from typing import TypeVar

from .base import RandomSource

T = TypeVar("T")

# A sequence of turns repeats after the sum of its weights, and up to this long it is remembered as it is first played
# (8 bytes a turn, half a megabyte). Longer ones, such as thousands of targets with weights in the hundreds, are worked
# out turn by turn.
LONGEST_REMEMBERED = 65536


def endless_turns(items: Sequence[T], weights: Sequence[int], rng: RandomSource) -> Iterator[T]:
    """`items`, at least one, for ever: in any stretch as long as the sum of the weights, each by its weight exactly.

    (Weights are reduced by their common divisor first, so 100 and 200 are 1 and 2.)
    """
    divisor = gcd(*weights)
    weights = [weight // divisor for weight in weights]
    period = sum(weights)
    if period == len(items):
        start = int(rng.random() * period)
        return cycle([*items[start:], *items[:start]])
    turns = _by_deadline(items, weights, rng)
    return cycle(islice(turns, period)) if period <= LONGEST_REMEMBERED else turns


def _by_deadline(items: Sequence[T], weights: Sequence[int], rng: RandomSource) -> Iterator[T]:
    """Earliest deadline first: an item of weight w is due w times in each unit of time, evenly, from a random phase on.

    nginx's smooth weighted round robin gives the same shares, but looks at every item for every turn, and always
    starts with the heaviest: with targets that flap, the light ones would wait for ever. Envoy and Traefik do as here.
    """
    phases = [rng.random() for _ in items]
    turns = [0] * len(items)
    due = [(phase / weight, index) for index, (phase, weight) in enumerate(zip(phases, weights, strict=True))]
    heapify(due)
    while True:
        index = due[0][1]
        yield items[index]
        turns[index] += 1
        # From the count and not from the last deadline, so that rounding does not add up.
        heapreplace(due, ((turns[index] + phases[index]) / weights[index], index))
