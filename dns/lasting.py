"""Answers of resolvers that are remembered whole, like our own: but their TTLs go down, and their time ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from .answers import Reply
from .cache import Entry
from .rings import Dependent
from .wire import Question, opt_for

LIMIT = 2048  # answers; half of what is remembered at least. Others come from the cache, which costs 5 µs more
SWEEP = 1.0  # seconds between looks at whose time is over; for 2048 it takes 0.1 ms
LEAST = 3.0  # seconds that an answer must have left: else it is over before that pays
WANTED = 2  # times it was asked for, before it is worth it


class _Aged:
    """The sections with the TTLs that are left, made anew every second at most."""

    __slots__ = ("_age", "_entry", "_made", "_opt")

    def __init__(self, entry: Entry, opt: bytes) -> None:
        self._entry = entry
        self._opt = opt
        self._age = -1
        self._made = b""

    def __call__(self) -> bytes:
        now = monotonic()  # the loop's clock
        age = int(now - self._entry.stored)
        if age != self._age:
            self._age = age
            self._made = self._entry.aged(now) + self._opt
        return self._made


class Lasting:
    __slots__ = ("_ends", "_forget", "_timer")

    def __init__(self) -> None:
        self._forget: Callable[[Iterable[Dependent]], None] = lambda _over: None
        self._ends: dict[Dependent, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def reply(self, question: Question, limit: int, entry: Entry, now: float) -> Reply | None:
        """None where it is not worth remembering. Over is it when its entry wants to be fetched anew.

        Who mixes the case of letters would be remembered once for every mixture.
        """
        end = entry.prefetch_at - SWEEP
        if end - now < LEAST or entry.hits < WANTED or len(self._ends) >= LIMIT:
            return None
        opt = opt_for(question)
        if question.section[:-4] != question.key or not entry.fits(question, limit, opt):
            return None
        over = Dependent()
        self._ends[over] = end
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        return Reply(entry.head(question), _Aged(entry, opt), question.qtype, entry.rcode, (over,), cached=True)

    def use(self, forget: Callable[[Iterable[Dependent]], None]) -> None:
        """Whoever remembers from now on, with nothing so far. `forget` is told whose time is over."""
        self.clear()
        self._forget = forget

    def clear(self) -> None:
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Without a question it is remembered no more: there was no room.
        over = [each for each, end in self._ends.items() if end <= now or not each.remembered]
        for each in over:
            del self._ends[each]
        self._forget(over)
        self._timer = loop.call_later(SWEEP, self._sweep) if self._ends else None
