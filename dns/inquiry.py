"""One question put to one resolver: over UDP, over TCP if the answer was cut short, without EDNS if it knows none.

A reply counts only if it comes from the address that was asked, to the port that asked, with the id and the question as
they were sent, the case of every letter included; port, id and case are random (RFC 5452, 0x20). Anything else is
ignored, and the timer goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from time import monotonic

from .counters import DnsCounters
from .selection import CASE_MEMORY, Track
from .spelling import folded, mixed
from .wire import (
    CD,
    EDNS_UDP_SIZE,
    RD,
    TC,
    TCP_SIZE,
    Question,
    Rcode,
    Response,
    opt_record,
    read_response,
)

LOT_SIZE = 16  # octets of chance for the case of a name's letters: 128 bits, far beyond what id and port give

Answer = tuple[bytes, Response]


class Inquiry:
    """`done` is called once, unless it is cancelled first: with the answer, or None."""

    __slots__ = (
        "_counters",
        "_done",
        "_folds",
        "_loop",
        "_message_id",
        "_question",
        "_section",
        "_sent_at",
        "_sock",
        "_task",
        "_tasks",
        "_timer",
        "_with_edns",
        "track",
        "unreachable",
    )

    def __init__(
        self,
        track: Track,
        question: Question,
        done: Callable[[Inquiry, Answer | None], None],
        counters: DnsCounters,
        loop: asyncio.AbstractEventLoop,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        """`tasks` are those to be waited for by whoever stops."""
        self.track = track
        self.unreachable = False  # the kernel said so
        self._question = question
        self._done = done
        self._counters = counters
        self._loop = loop
        self._tasks = tasks
        self._folds = False  # it has answered in letters of another case than it was asked in
        self._section = question.section
        self._message_id = 0
        self._sent_at = 0.0
        self._with_edns = True
        self._sock: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, timeout: float, *, mixed_case: bool) -> None:
        now = self._sent_at = monotonic()
        self._timer = self._loop.call_later(timeout, self._time_out)
        if mixed_case and self.track.folds_until <= now:
            self._section = mixed(self._question.section, secrets.token_bytes(LOT_SIZE))
        self._ask()

    def sent(self, message_id: int, section: bytes) -> bool:
        """Whether a query is this one, come back to us."""
        return self._message_id == message_id and self._section == section

    def cancel(self) -> None:
        """Another resolver was quicker, or nobody waits."""
        now = monotonic()
        self.track.outrun(now - self._sent_at, now)
        self._release()

    def _ask(self) -> None:
        self._close()
        self._counters.forward_tries += 1
        self._message_id = secrets.randbits(16)
        address = self.track.address
        try:
            sock = socket.socket(
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            )
        except OSError:  # out of descriptors
            self._loop.call_soon(self._give_up)
            return
        self._sock = sock
        try:
            # Connected, so the kernel takes datagrams from the resolver's address and port only. Our port is one that
            # it draws at random for each socket.
            sock.connect(address)
            sock.send(self._query())
        except OSError:
            self._loop.call_soon(self._give_up)
            return
        self._loop.add_reader(sock, self._readable)

    def _query(self) -> bytes:
        """The client's question in a query of our own: its DO and CD go along, all else is ours to say."""
        flags = RD | self._question.flags & CD
        edns = self._with_edns
        header = b"".join(field.to_bytes(2) for field in (self._message_id, flags, 1, 0, 0, int(edns)))
        return header + self._section + (opt_record(self._question.do, udp_size=EDNS_UDP_SIZE) if edns else b"")

    def _readable(self) -> None:
        assert self._sock is not None
        try:
            packet = self._sock.recv(TCP_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # nobody listens there (ICMP says so)
            self._give_up()
            return
        response = read_response(packet, self._message_id, self._section)
        if response is None:
            if not self._folds and folded(packet, self._message_id, self._section):
                # It has our id and came to our port: it folds case, or somebody guessed well. TCP cannot be forged.
                self._folds = True
                self._counters.forward_folded += 1
                self._ask_over_tcp()
            else:
                self._counters.forward_ignored += 1
        elif response.rcode in (Rcode.FORMERR, Rcode.NOTIMP) and not response.edns and self._with_edns:
            self._with_edns = False  # RFC 6891 section 7
            self._ask()
        elif response.flags & TC:
            self._ask_over_tcp()
        else:
            self._finish((packet, response))

    def _ask_over_tcp(self) -> None:
        self._close()
        self._counters.forward_tries += 1
        self._counters.forward_tcp += 1
        self._task = self._loop.create_task(self._over_tcp())
        self._tasks.add(self._task)
        self._task.add_done_callback(self._tasks.discard)

    async def _over_tcp(self) -> None:
        writer: asyncio.StreamWriter | None = None
        self._message_id = secrets.randbits(16)
        query = self._query()
        try:
            reader, writer = await asyncio.open_connection(*self.track.address)
            writer.write(len(query).to_bytes(2) + query)
            packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        except (OSError, EOFError):
            self._without_tcp()
            return
        finally:
            if writer is not None:
                writer.transport.abort()
        response = read_response(packet, self._message_id, self._section, fold=True)
        if response is None or response.flags & TC:
            self._give_up()
            return
        if folded(packet, self._message_id, self._section):
            self.track.folds_until = monotonic() + CASE_MEMORY
        self._finish((packet, response))

    def _without_tcp(self) -> None:
        """One that folds case is asked once more, as it likes it; one that cut its answer short has nothing better."""
        if self._folds and self._section != self._question.section:
            self._section = self._question.key + self._question.section[-4:]
            self._ask()
        else:
            self._give_up()

    def _time_out(self) -> None:
        self._timer = None
        self._fail()

    def _give_up(self) -> None:
        """There is nobody, or nothing that can be read."""
        if self._timer is not None:  # else it is over already
            self.unreachable = True
            self._fail()

    def _fail(self) -> None:
        now = monotonic()
        self._counters.forward_failures[self.track.name] += 1
        self.track.failed(now - self._sent_at, now)
        self._release()
        self._done(self, None)

    def _finish(self, answer: Answer) -> None:
        now = monotonic()
        latency = now - self._sent_at
        self.track.answered(latency, now)
        self._counters.forward_seconds[self.track.name] += latency
        self._counters.forward_answers[self.track.name] += 1
        self._release()
        self._done(self, answer)

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()
        self._close()

    def _close(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
