"""Asks the resolvers for everything that is not ours, once per question however many clients want to know.

What a client gets is always an answer: from the cache, from the first resolver that has a usable one, from the cache
past its end, or SERVFAIL within the race's deadline, with the reason in it (RFC 8914).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from . import private_zones
from .answers import Reply
from .cache import Cache, Entry, entry_of
from .counters import DnsCounters, Transport
from .extended_errors import CACHED_ERROR, LOOP, SHUTTING_DOWN, TOO_BUSY, ExtendedError
from .forwarding_specs import BY_DEFAULT, ForwardingSpec, Resolver
from .inquiry import Answer
from .lasting import Lasting
from .race import Race
from .selection import Routes
from .wire import CD, RA, TC, Question, Rcode, bare_reply

TRY_TIMEOUT = 1.5  # seconds for one resolver; three fit before glibc, which waits 5 s, asks again
STALE_AFTER = 1.8  # seconds that clients wait before they get what is past its end: RFC 8767 section 5
IN_FLIGHT_LIMIT = 1024  # questions; Unbound's num-queries-per-thread. Each holds one socket, or two
WAITING_LIMIT = 8192  # clients of all of them; each holds its question only

Deliver = Callable[[bytes], None]

# DO and CD change what is answered, so they are part of what is kept.
_WAYS = {(do, cd): bytes((do, bool(cd))) for do in (False, True) for cd in (0, CD)}


def _key(question: Question) -> bytes:
    return question.key + question.section[-4:] + _WAYS[question.do, question.flags & CD]


class _Client(NamedTuple):
    question: Question
    transport: Transport
    limit: int
    deliver: Deliver


class _UnderWay:
    """A question that resolvers are asked, and who waits for it: nobody, when it is asked to keep the cache fresh."""

    __slots__ = ("clients", "past", "question", "race", "stale_timer")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.clients: list[_Client] = []
        self.past: Entry | None = None  # what is known of it, past its end
        self.race: Race | None = None
        self.stale_timer: asyncio.TimerHandle | None = None


class Forwarder:
    __slots__ = (
        "_cache",
        "_counters",
        "_drained",
        "_routes",
        "_spec",
        "_tasks",
        "_under_way",
        "_waiting",
        "lasting",
        "try_timeout",
    )

    def __init__(self, cache: Cache, counters: DnsCounters, try_timeout: float = TRY_TIMEOUT) -> None:
        self.try_timeout = try_timeout
        self.lasting = Lasting()
        self._cache = cache
        self._counters = counters
        self._routes = Routes()
        self._spec = BY_DEFAULT
        self._under_way: dict[bytes, _UnderWay] = {}
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._drained: asyncio.Event | None = None

    def use(self, resolvers: tuple[Resolver, ...], spec: ForwardingSpec | None = None) -> None:
        """Ask these from now on. Questions under way end as they began."""
        spec = spec or self._spec
        self._routes = Routes(resolvers, spec.zones, self._routes)
        if spec.zones != self._spec.zones:
            self._cache.clear()  # the names of such a zone may have another owner now
        self._spec = spec
        self._cache.use(spec.cache)

    @property
    def forwards(self) -> bool:
        """Whether there is anybody to ask for anything."""
        return self._routes.general or bool(self._spec.zones)

    def takes(self, question: Question) -> bool:
        """Whether there is somebody to ask."""
        return self._routes.general or self._routes.zone_of(question.key) is not None

    def ask(self, question: Question, transport: Transport, limit: int, deliver: Deliver) -> bytes | None:
        """The answer if it is at hand. None: `deliver` is called with it, later and exactly once."""
        now = asyncio.get_running_loop().time()
        key = _key(question)
        entry = self._cache.get(key, now)
        if entry is not None:
            if entry.is_fresh(now):
                self._counters.cache_hits += 1
                if entry.wants_prefetch(now) and self._spec.cache.prefetch and key not in self._under_way:
                    self._prefetch(key, question)
                return self._render(question, transport, limit, entry, now)
            if now < entry.retry_at:
                return self._render_stale(question, transport, limit, entry, now)
        self._counters.cache_misses += 1
        if not self._spec.private_reverse and (home := self._kept_home(question)) is not None:
            self._counters.private_reverse += 1
            self._counters.count(transport, question.qtype, home[0])
            return home[1]
        if entry is None and self._cache.failed(key, now):
            self._counters.forward_remembered_failures += 1
            return self._failure(question, transport, CACHED_ERROR)
        under_way = self._under_way.get(key)
        if under_way is not None and under_way.race is not None and under_way.race.sent(question.id, question.section):
            self._counters.forward_loops += 1
            under_way.race.cancel()
            self._finish(key, None, LOOP)
            return self._failure(question, transport, LOOP)
        if self._waiting >= WAITING_LIMIT or (under_way is None and len(self._under_way) >= IN_FLIGHT_LIMIT):
            if entry is not None:
                return self._render_stale(question, transport, limit, entry, now)
            self._counters.forward_failed += 1
            return self._failure(question, transport, TOO_BUSY)
        self._waiting += 1
        if under_way is not None:
            # A question that comes back to us in other words, through a chain of resolvers, ends here too: it waits
            # for itself, and the deadline answers it. So a loop makes no storm.
            self._counters.forward_coalesced += 1
        else:
            self._counters.forwarded += 1
            under_way = self._resolve(key, question)
        under_way.clients.append(_Client(question, transport, limit, deliver))
        if entry is not None and under_way.stale_timer is None:
            under_way.past = entry
            under_way.stale_timer = asyncio.get_running_loop().call_later(STALE_AFTER, self._answer_stale, under_way)
        return None

    def lasting_reply(self, question: Question, limit: int) -> Reply | None:
        """The answer that was just given, if it is worth remembering whole."""
        entry = self._cache.peek(_key(question))
        return self.lasting.reply(question, limit, entry, asyncio.get_running_loop().time()) if entry else None

    async def drained(self) -> None:
        """Returns when nobody waits."""
        if self._under_way:
            self._drained = asyncio.Event()
            await self._drained.wait()

    async def stop(self) -> None:
        """Everyone still waiting is told SERVFAIL."""
        self.lasting.clear()
        for key, under_way in list(self._under_way.items()):
            if under_way.race is not None:
                under_way.race.cancel()
            self._finish(key, None, SHUTTING_DOWN)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _resolve(self, key: bytes, question: Question) -> _UnderWay:
        under_way = self._under_way[key] = _UnderWay(question)

        def done(answer: Answer | None, error: ExtendedError | None) -> None:
            entry = None
            now = asyncio.get_running_loop().time()
            if answer is not None:
                entry = entry_of(*answer, question, now, self._spec.cache)
                self._cache.put(key, entry)
            else:
                self._counters.forward_failed += 1
                self._cache.fail(key, now)
            self._finish(key, entry, error)

        under_way.race = Race(question, self._routes.resolvers_of(question.key), done, self._counters, self._tasks)
        under_way.race.start(self.try_timeout, mixed_case=self._spec.mixed_case)
        return under_way

    def _prefetch(self, key: bytes, question: Question) -> None:
        if len(self._under_way) < IN_FLIGHT_LIMIT:
            self._counters.cache_prefetches += 1
            self._resolve(key, question)

    def _finish(self, key: bytes, entry: Entry | None, error: ExtendedError | None) -> None:
        """Whoever waits is answered, with what is past its end where there is nothing better."""
        under_way = self._under_way.pop(key)
        if under_way.stale_timer is not None:
            under_way.stale_timer.cancel()
        if self._drained is not None and not self._under_way:
            self._drained.set()
        if entry is None and under_way.past is not None:
            self._answer_stale(under_way)
            return
        self._waiting -= len(under_way.clients)
        now = asyncio.get_running_loop().time()
        for question, transport, limit, deliver in under_way.clients:
            if entry is None:
                deliver(self._failure(question, transport, error))
            else:
                deliver(self._render(question, transport, limit, entry, now))

    def _answer_stale(self, under_way: _UnderWay) -> None:
        """Nobody waits longer than this for something that is known to have been true."""
        assert under_way.past is not None
        clients, under_way.clients = under_way.clients, []
        under_way.stale_timer = None
        self._waiting -= len(clients)
        now = asyncio.get_running_loop().time()
        for question, transport, limit, deliver in clients:
            deliver(self._render_stale(question, transport, limit, under_way.past, now))

    def _kept_home(self, question: Question) -> tuple[int, bytes] | None:
        """Our answer for the name of a private address, unless a zone says whom to ask."""
        zone = private_zones.zone_of(question.key)
        if zone is None or self._routes.zone_of(question.key) is not None:
            return None
        return private_zones.answer(question, zone)

    def _failure(self, question: Question, transport: Transport, error: ExtendedError | None) -> bytes:
        self._counters.count(transport, question.qtype, Rcode.SERVFAIL)
        return bare_reply(question, RA | Rcode.SERVFAIL, error.option if error is not None else b"")

    def _render_stale(self, question: Question, transport: Transport, limit: int, entry: Entry, now: float) -> bytes:
        self._counters.cache_stale += 1
        return self._render(question, transport, limit, entry, now, entry.stale_error)

    def _render(
        self,
        question: Question,
        transport: Transport,
        limit: int,
        entry: Entry,
        now: float,
        error: ExtendedError | None = None,
    ) -> bytes:
        """The packet for one client: the entry, or TC if it does not fit."""
        self._counters.count(transport, question.qtype, entry.rcode)
        packet = entry.render(question, limit, now, error)
        if packet is None:
            self._counters.truncated += 1
            return bare_reply(question, RA | TC | entry.rcode)
        return packet
