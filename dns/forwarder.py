"""Asks the resolvers for everything that is not ours, once per question however many clients want to know.

What a client gets is always an answer: from the cache, from the first resolver that has a usable one, or SERVFAIL
within `DEADLINE`. A reply counts only if it comes from the address that was asked, to the port that asked, with the id
and the question as they were sent; both port and id are random (RFC 5452).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .cache import Cache, Entry, entry_of
from .counters import DnsCounters, Transport
from .wire import (
    CD,
    EDNS_UDP_SIZE,
    RA,
    RD,
    TC,
    TCP_SIZE,
    Question,
    Rcode,
    Response,
    bare_reply,
    opt_record,
    read_response,
)

TRY_TIMEOUT = 1.5  # seconds for one resolver; three fit before glibc, which waits 5 s, asks again
DEADLINE = 4.5  # seconds for a question, all tries together
ROUNDS = 2  # times that each resolver is tried, for a datagram may just be lost
IN_FLIGHT_LIMIT = 1024  # questions; Unbound's num-queries-per-thread. Each holds one socket
WAITING_LIMIT = 8192  # clients of all of them; each holds its question only

Deliver = Callable[[bytes], None]
Resolver = tuple[str, int]

# Answers that say "not me" rather than something about the name.
_UNUSABLE = frozenset((Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED))

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Client:
    question: Question
    transport: Transport
    limit: int
    deliver: Deliver


@dataclass(slots=True)
class _UnderWay:
    clients: list[_Client] = field(default_factory=list[_Client])
    task: asyncio.Task[Entry | None] | None = None


class Forwarder:
    __slots__ = ("_cache", "_counters", "_first", "_under_way", "_waiting", "resolvers", "try_timeout")

    def __init__(self, cache: Cache, counters: DnsCounters, try_timeout: float = TRY_TIMEOUT) -> None:
        self.resolvers: tuple[Resolver, ...] = ()
        self.try_timeout = try_timeout
        self._cache = cache
        self._counters = counters
        self._first = 0  # the resolver that answered last is asked first, so a dead one costs one timeout, not one each
        self._under_way: dict[bytes, _UnderWay] = {}
        self._waiting = 0

    def ask(self, question: Question, transport: Transport, limit: int, deliver: Deliver) -> bytes | None:
        """The answer if it is at hand. None: `deliver` is called with it, later and exactly once."""
        now = asyncio.get_running_loop().time()
        client = _Client(question, transport, limit, deliver)
        key = question.key + question.section[-4:] + bytes((question.do, bool(question.flags & CD)))
        entry = self._cache.get(key, now)
        if entry is not None:
            self._counters.cache_hits += 1
            return self._render(client, entry, now)
        self._counters.cache_misses += 1
        under_way = self._under_way.get(key)
        if self._waiting >= WAITING_LIMIT or (under_way is None and len(self._under_way) >= IN_FLIGHT_LIMIT):
            self._counters.forward_failed += 1
            return self._render(client, None, now)
        self._waiting += 1
        if under_way is not None:
            # A question that comes back to us through a chain of resolvers ends here too: it waits for itself, and
            # the deadline answers it. So a loop makes no storm.
            self._counters.forward_coalesced += 1
            under_way.clients.append(client)
            return None
        self._counters.forwarded += 1
        under_way = self._under_way[key] = _UnderWay([client])
        under_way.task = asyncio.create_task(self._resolve(question))
        under_way.task.add_done_callback(partial(self._finish, key))
        return None

    async def drained(self) -> None:
        """Returns when nobody waits."""
        while self._under_way:
            await asyncio.wait([under_way.task for under_way in self._under_way.values() if under_way.task])

    async def stop(self) -> None:
        """Everyone still waiting is told SERVFAIL."""
        tasks = [under_way.task for under_way in self._under_way.values() if under_way.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _resolve(self, question: Question) -> Entry | None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                return await self._try_each(question)
        return None

    def _finish(self, key: bytes, task: asyncio.Task[Entry | None]) -> None:
        """Called however the task ended, cancelled before its first step included: whoever waits is answered."""
        entry = None
        if not task.cancelled():
            error = task.exception()
            if error is None:
                entry = task.result()
            else:
                self._counters.internal_errors += 1
                log.error("a question could not be forwarded", exc_info=error)
        if entry is None:
            self._counters.forward_failed += 1
        else:
            self._cache.put(key, entry)
        clients = self._under_way.pop(key).clients
        self._waiting -= len(clients)
        now = task.get_loop().time()
        for client in clients:
            client.deliver(self._render(client, entry, now))

    def _render(self, client: _Client, entry: Entry | None, now: float) -> bytes:
        """The packet for one client: the entry, TC if it does not fit, SERVFAIL if there is none."""
        question = client.question
        if entry is None:
            self._counters.count(client.transport, question.qtype, Rcode.SERVFAIL)
            return bare_reply(question, RA | Rcode.SERVFAIL)
        self._counters.count(client.transport, question.qtype, entry.rcode)
        packet = entry.render(question, client.limit, now)
        if packet is None:
            self._counters.truncated += 1
            return bare_reply(question, RA | TC | entry.rcode)
        return packet

    async def _try_each(self, question: Question) -> Entry | None:
        """The first usable answer. Who said something unusable is not asked again, who was silent is, once."""
        resolvers = self.resolvers
        order = [(self._first + step) % len(resolvers) for step in range(len(resolvers))] * ROUNDS
        unusable: set[int] = set()
        for index in order:
            if index in unusable:
                continue
            answer = await self._try(resolvers[index], question)
            if answer is None:
                continue
            packet, response = answer
            if response.rcode in _UNUSABLE or response.rcode > 15 or response.flags & TC:
                unusable.add(index)
                continue
            self._first = index
            return entry_of(packet, response, question, asyncio.get_running_loop().time())
        return None

    async def _try(self, resolver: Resolver, question: Question) -> tuple[bytes, Response] | None:
        """One resolver: over TCP if its answer was cut short, without EDNS if it did not understand that."""
        answer = await self._over_udp(resolver, question, edns=True)
        if answer is not None and answer[1].rcode in (Rcode.FORMERR, Rcode.NOTIMP) and not answer[1].edns:
            answer = await self._over_udp(resolver, question, edns=False)  # RFC 6891 section 7
        if answer is not None and answer[1].flags & TC:
            answer = await self._over_tcp(resolver, question)
        return answer

    async def _over_udp(self, resolver: Resolver, question: Question, *, edns: bool) -> tuple[bytes, Response] | None:
        """None: nothing acceptable came in time. What is not acceptable is ignored, the timer goes on."""
        self._counters.forward_tries += 1
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[tuple[bytes, Response] | None] = loop.create_future()
        message_id = secrets.randbits(16)

        def readable() -> None:
            try:
                packet = sock.recv(TCP_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # nobody listens there (ICMP says so)
                packet = b""
            response = read_response(packet, message_id, question.section)
            if not answered.done() and (response is not None or not packet):
                answered.set_result((packet, response) if response is not None else None)

        family = socket.AF_INET6 if ":" in resolver[0] else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError:  # out of descriptors
            return None
        try:
            # Connected, so the kernel takes datagrams from the resolver's address and port only. Our port is one that
            # it draws at random for each socket.
            sock.connect(resolver)
            sock.send(_query(question, message_id, edns=edns))
            loop.add_reader(sock, readable)
            async with asyncio.timeout(self.try_timeout):
                return await answered
        except OSError:  # TimeoutError too
            return None
        finally:
            loop.remove_reader(sock)
            sock.close()

    async def _over_tcp(self, resolver: Resolver, question: Question) -> tuple[bytes, Response] | None:
        self._counters.forward_tries += 1
        message_id = secrets.randbits(16)
        query = _query(question, message_id, edns=True)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self.try_timeout):
                reader, writer = await asyncio.open_connection(*resolver)
                writer.write(len(query).to_bytes(2) + query)
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        except (OSError, EOFError):
            return None
        finally:
            if writer is not None:
                writer.transport.abort()
        response = read_response(packet, message_id, question.section)
        return (packet, response) if response is not None else None


def _query(question: Question, message_id: int, *, edns: bool) -> bytes:
    """The client's question in a query of our own: its DO and CD go along, all else is ours to say."""
    flags = RD | question.flags & CD
    header = b"".join(field.to_bytes(2) for field in (message_id, flags, 1, 0, 0, int(edns)))
    return header + question.section + (opt_record(question.do, udp_size=EDNS_UDP_SIZE) if edns else b"")
