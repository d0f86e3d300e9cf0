"""Consistent hashing by Maglev's table: one key goes to one candidate, and a change of the set moves few of the others.

Every member of a group has an order of its own in which it likes the places of a table; they take turns, by weight,
each taking the best place that is free. The table depends on the members' names, their weights and its size alone, so
every worker and every load balancer with the same configuration sends a key the same way. (Eisenbud et al., "Maglev",
NSDI 2016, section 3.4; weights as in Envoy.)

The table is that of the whole group, well or not: a key whose member may not be used now is hashed on until it meets
one that may. So a health flip builds nothing, moves the keys of that member alone, and they come back with it; and a
member that is being warmed up gets its part of its own keys.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Generic

from .base import CandidateT, RandomSource, with_weights
from .round_robin import RoundRobin

# A hundred places for each member keep shares within one per cent (section 5.3 of the paper). Primes, so that every
# step visits every place. A table is built anew when the group changes, about a microsecond for each place while
# nothing else is done, so small groups have small ones; the largest is below Envoy's 65537, and a thousand targets are
# even to 5 %.
SIZES = (1009, 5003, 20011)
PLACES_EACH = 100
TABLES = 64  # remembered, of 40 KiB at most

# How often a key is hashed on. Were 95 of 100 members ill, one key in a hundred and seventy would not find a well one,
# and is then given to one by number, which moves it with every flip.
TRIES = 100
ALL = 1 << 16  # of a member's keys
_MULTIPLIER, _INCREMENT, _MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1  # Knuth's MMIX


def table_size(candidates: int) -> int:
    """For a group of so many."""
    return next((size for size in SIZES if candidates * PLACES_EACH <= size), SIZES[-1])


def hashed(key: bytes) -> int:
    """64 bits that are the same in every process; Python's own hash is another in each."""
    return int.from_bytes(blake2b(key, digest_size=8).digest())


class Maglev(Generic[CandidateT]):
    """`members` are the names and usual weights of the whole group. Without a key (the request has no such header, say)
    everyone has a turn."""

    __slots__ = ("_candidates", "_parts", "_table", "_usable", "pick")

    def __init__(
        self,
        candidates: Iterable[CandidateT],
        rng: RandomSource,
        members: Mapping[str, int] | None = None,
        size: int | None = None,
    ) -> None:
        everyone = list(candidates)
        taking_part, weights = with_weights(everyone)
        weight_now = {candidate.key: weight for candidate, weight in zip(taking_part, weights, strict=True)}
        usual = {name: weight for name, weight in (members or {}).items() if weight > 0}
        if not weight_now.keys() <= usual.keys():  # only standbys are left, or there is no other group than this
            usual = weight_now
        names = sorted(usual)  # so that the order in which a file lists them is no matter
        by_name = {candidate.key: candidate for candidate in taking_part}
        self._usable = [by_name[name] for name in sorted(by_name)]
        self._candidates = [by_name.get(name) for name in names]
        self._parts = _parts([weight_now.get(name, 0) / usual[name] for name in names])
        self._table = _table(tuple(names), tuple(usual[name] for name in names), size or table_size(len(names)))
        self.pick = RoundRobin(everyone, rng).pick

    def pick_for(self, key: bytes) -> CandidateT | None:
        if not self._usable:
            return None
        table, parts = self._table, self._parts
        places = len(table)
        drawn = hashed(key)
        for _ in range(TRIES):
            index = table[drawn % places]
            candidate = self._candidates[index]
            if candidate is not None and (parts is None or drawn >> 48 < parts[index]):
                return candidate
            drawn = (drawn * _MULTIPLIER + _INCREMENT) & _MASK
        return self._usable[drawn % len(self._usable)]


def _parts(weights: list[float]) -> list[int] | None:
    """How many of ALL of its keys each has, beside the one that is nearest to its usual weight; None: all of them."""
    most = max(weights, default=0)
    parts = [round(ALL * weight / most) for weight in weights] if most else []
    return parts if any(0 < part < ALL for part in parts) else None


@lru_cache(maxsize=TABLES)
def _table(members: tuple[str, ...], weights: tuple[int, ...], size: int) -> array[int]:
    """At each place the index of who has it. Never changed."""
    if not members:
        return array("H")
    names = [member.encode() for member in members]
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
