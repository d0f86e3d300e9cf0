"""All orders of a name's records of one type, as the bytes that follow the question. Whoever asks gets the next.

Records compress against the question alone. Packets are made when first asked for and kept; where there are too many
to keep, they are joined anew each time from records that are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import nlargest
from itertools import cycle, repeat

from .policy.order import Order, fixed

# Rings whose packets are kept: of so many instances, in answers of so many octets. That bounds what an instance costs
# to some 1 KiB per type; joining the records of a packet anew costs 1 µs for 8 of them.
KEPT, KEPT_SIZE = 64, 1232


class Dependent:
    """What replies hang on. `remembered` has the questions whose replies go when this does."""

    __slots__ = ("remembered",)

    def __init__(self) -> None:
        self.remembered: set[bytes] | None = None  # most are never asked for, and a set has 216 octets


class Ring(Dependent):
    """`answers` is one record each, `additionals` belong to the answer of the same index."""

    __slots__ = ("_additionals", "_answers", "_longest", "_order", "_prefix", "_tails", "additional_count", "count")

    def __init__(
        self,
        answers: Sequence[bytes],
        additionals: Sequence[bytes] = (),
        order: Order | None = None,
        prefix: bytes = b"",
    ) -> None:
        super().__init__()
        self._answers = answers
        self._additionals = additionals
        self._order = fixed(len(answers)) if order is None else order
        self._prefix = prefix  # records before those of the ring: the CNAMEs that led to them
        self._longest: tuple[int, int] | None = None
        self._tails: dict[tuple[bool, bytes], Callable[[], bytes]] = {}
        self.count = self._order.size
        self.additional_count = self.count if additionals else 0

    def longest(self, *, full: bool) -> int:
        """Octets of the longest answer, its additionals counted too if it is to be `full`."""
        if self._longest is None:
            bare = self._sum_of_largest(map(len, self._answers))
            whole = bare
            if self._additionals:
                pairs = zip(self._answers, self._additionals, strict=True)
                whole = self._sum_of_largest(len(answer) + len(additional) for answer, additional in pairs)
            self._longest = (bare, whole)
        return self._longest[full]

    def _sum_of_largest(self, sizes: Iterable[int]) -> int:
        counted = sizes if self.count == len(self._answers) else nlargest(self.count, sizes)
        return len(self._prefix) + sum(counted)

    def tail(self, opt: bytes, *, full: bool) -> Callable[[], bytes]:
        """One iterator for all who get these packets, however they spelled the name: so that shares hold among all."""
        key = (full, opt)
        if key not in self._tails:
            self._tails[key] = self._turns(partial(self._packet, opt, full))
        return self._tails[key]

    def behind(self, prefix: bytes, owner: bytes) -> Ring:
        """The same records, of a name that is not the question's but was led to by the records of `prefix`."""
        moved = [owner + answer[2:] for answer in self._answers]
        return Ring(moved, (), self._order, prefix)

    def _turns(self, packet: Callable[[int], bytes]) -> Callable[[], bytes]:
        places = self._order.places
        if len(places) == 1:
            return repeat(packet(0)).__next__
        if len(self._answers) > KEPT or self.longest(full=True) > KEPT_SIZE:
            return map(packet, cycle(range(len(places)))).__next__
        made: dict[int, bytes] = {}

        def keep(place: int) -> bytes:
            first = places[place]
            if first not in made:
                made[first] = packet(place)
            return made[first]

        return cycle(map(keep, range(len(places)))).__next__

    def _packet(self, opt: bytes, full: bool, place: int) -> bytes:
        who = self._order.answer(place)
        parts = [self._prefix, *[self._answers[index] for index in who]]
        if full and self._additionals:
            parts += [self._additionals[index] for index in who]
        parts.append(opt)
        return b"".join(parts)
