"""Consistent hashing by Maglev's table: one key goes to one candidate, and a change of the set moves few of the others.

Every candidate has an order of its own in which it likes the places of a table; they take turns, by weight, each taking
the best place that is free. The table depends on the candidates' names, weights and the table's size alone, so every
worker and every load balancer with the same configuration sends a key the same way. (Eisenbud et al., "Maglev", NSDI
2016, section 3.4; weights as in Envoy.)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Generic

from .base import CandidateT, RandomSource, with_weights
from .round_robin import RoundRobin

# A hundred places for each candidate keep shares within one per cent (section 5.3 of the paper). Primes, so that every
# step visits every place. A table is built anew at a health flip, about a microsecond for each place while nothing else
# is done, so small groups have small ones; the largest is below Envoy's 65537, and a thousand targets are even to 5 %.
SIZES = (1009, 5003, 20011)
PLACES_EACH = 100


def table_size(candidates: int) -> int:
    """For a group of so many. Of all that it has, not of those that are healthy now: another size moves every key."""
    return next((size for size in SIZES if candidates * PLACES_EACH <= size), SIZES[-1])


def hashed(key: bytes) -> int:
    """64 bits that are the same in every process; Python's own hash is another in each."""
    return int.from_bytes(blake2b(key, digest_size=8).digest())


class Maglev(Generic[CandidateT]):
    """Without a key (the request has no such header, say) everyone has a turn."""

    __slots__ = ("_candidates", "_table", "pick")

    def __init__(self, candidates: Iterable[CandidateT], rng: RandomSource, size: int = SIZES[-1]) -> None:
        everyone = list(candidates)
        taking_part, weights = with_weights(everyone)
        # By name, so that the order in which a file lists them is no matter.
        pairs = sorted(zip(taking_part, weights, strict=True), key=lambda pair: pair[0].key)
        self._candidates = [candidate for candidate, _ in pairs]
        self._table = _fill([c.key.encode() for c in self._candidates], [weight for _, weight in pairs], size)
        self.pick = RoundRobin(everyone, rng).pick

    def pick_for(self, key: bytes) -> CandidateT | None:
        table = self._table
        return self._candidates[table[hashed(key) % len(table)]] if table else None


def _fill(names: list[bytes], weights: list[int], size: int) -> array[int]:
    """The table: at each place the index of who has it."""
    if not names:
        return array("H")
    free = 0xFFFF
    table = array("H", [free]) * size
    # Where each begins, and the step by which it goes on: its order of preference.
    places = [hashed(b"place " + name) % size for name in names]
    steps = [1 + hashed(b"step " + name) % (size - 1) for name in names]
    heaviest = max(weights)
    credit = [0] * len(names)
    filled = 0
    while True:
        for index, weight in enumerate(weights):
            credit[index] += weight
            if credit[index] < heaviest:  # a candidate of half the heaviest's weight has every second turn
                continue
            credit[index] -= heaviest
            place, step = places[index], steps[index]
            while table[place] != free:
                place += step
                if place >= size:
                    place -= size
            table[place] = index
            places[index] = place
            filled += 1
            if filled == size:
                return table
