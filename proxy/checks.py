"""The probes that feed the health table: one per (address, check), however many target groups and services use it.

Glue: it opens connections, reads a status line and reports. What a result means is for the table to count. A probe
that was cancelled reports nothing, and after `stop` no task and no socket is left.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

from .balancing import RandomSource
from .dialing import UNIX_SERVER_NAME, connect_socket, server_name
from .grpc_health import BadAnswer, GrpcCall
from .health import FAILED, INTERNAL_ERROR, MISMATCH, TIMEOUT, CheckKey, HealthTable
from .proxy_protocol import build_local
from .specs import TargetTlsSpec, endpoint_key, is_unix
from .tls import target_context

JITTER = 0.2  # of the interval, either way: checks that began together drift apart (Envoy and HAProxy can do so too)

# While a state is changing the next look is due this soon. The thresholds count as ever, so three failures still make
# unhealthy, but in seconds and not in minutes (HAProxy's `fastinter`; ALB waits a whole interval each time).
RECHECK = 1.0

# First probes start at once, so that a small set-up serves at once; those beyond this many start at random within
# SPREAD, so that ten thousand targets are not ten thousand connections in one turn of the loop.
AT_ONCE = 50
SPREAD = 1.0

MAX_LINE = 8192  # of a status line or a field of an interim answer; ours is generous, Apache says 8190
MAX_INTERIM = 10  # answers of 1xx before the final one (RFC 9110 section 15.2); who sends more is not answering

# An origin should not see a reset because we closed while it still wrote the body: what it sends is read and dropped,
# up to this much and this long after the verdict. `Connection: close` makes an honest one finish at once.
MAX_REST = 64 * 1024
REST_PATIENCE = 0.25

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r\n")  # RFC 9112 section 4; SP may be missing


ALPN = {"HTTPS": (), "GRPCS": ("h2",)}
UNPROVEN = TargetTlsSpec(verify=False)  # as on ALB: a check asks whether a target works, not who it is


class Verdict(NamedTuple):
    ok: bool
    reason: str = ""
    description: str = ""


PASSED = Verdict(True)


class Checker:
    """Keeps a set of probes running; `apply` says which, by difference.

    `connect_allowed` is asked before every probe and answers None, or the sentence of the firewall rule that denies
    the connection; the target then fails its check with that sentence, as it would with a packet filter in between.
    """

    __slots__ = ("_clock", "_connect_allowed", "_ending", "_rng", "_running", "_table")

    def __init__(
        self,
        table: HealthTable,
        *,
        connect_allowed: Callable[[CheckKey], str | None],
        rng: RandomSource,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._table = table
        self._connect_allowed = connect_allowed
        self._rng = rng
        self._clock = clock
        self._running: dict[CheckKey, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def apply(self, keys: Iterable[CheckKey]) -> None:
        """Probe exactly `keys` from now on. Those probed already go on undisturbed; the table follows."""
        wanted = dict.fromkeys(keys)  # a set that keeps its order
        for key in [key for key in self._running if key not in wanted]:
            task = self._running.pop(key)
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()
        self._table.retain(wanted)
        self._table.track(wanted, self._clock())
        new = [key for key in wanted if key not in self._running]
        for index, key in enumerate(new):
            delay = 0.0 if index < AT_ONCE else self._rng.random() * min(key.check.interval, SPREAD)
            self._running[key] = asyncio.create_task(self._watch(key, delay), name=f"check {key.ip} {key.port}")

    async def stop(self) -> None:
        """End every probe. The table keeps its records: what was healthy may still be draining."""
        tasks = {*self._running.values(), *self._ending}
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were told to close do so on the loop's next turn

    async def _watch(self, key: CheckKey, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            began = self._clock()
            await self._probe(key)
            await asyncio.sleep(max(0.0, began + self._pause(key) - self._clock()))

    def _pause(self, key: CheckKey) -> float:
        """From the start of one probe to the start of the next; a probe that takes longer is followed at once."""
        record = self._table.view.get(key)
        interval = key.check.interval
        if record is not None and record.changing:
            interval = min(interval, RECHECK)
        return interval * (1 - JITTER + 2 * JITTER * self._rng.random())

    async def _probe(self, key: CheckKey) -> None:
        """Connect, ask unless connecting was all, and report. The timeout is for everything up to the status line."""
        check = key.check
        try:
            denied = self._connect_allowed(key)
            if denied is not None:
                self._report(key, Verdict(False, FAILED, denied))
                return
            async with asyncio.timeout(check.timeout) as patience, _connection(key) as (reader, writer):
                if check.protocol == "TCP":
                    self._report(key, PASSED)
                    return
                if check.protocol in ("GRPC", "GRPCS"):
                    self._report(key, await _call(key, reader, writer))
                    return
                writer.write(_request(key))
                verdict = _judge(key, await _read_status(reader))
                patience.reschedule(None)
                self._report(key, verdict)
                await _read_rest(reader)
        except Exception as exc:  # noqa: BLE001 - a mistake of ours must not leave a target unwatched for ever
            self._report(key, _failure(exc))

    def _report(self, key: CheckKey, verdict: Verdict) -> None:
        try:
            self._table.observe(key, *verdict, self._clock())
        except Exception as exc:  # noqa: BLE001 - a subscriber's mistake must not end the checks either
            context = {"message": "a subscriber of the health table failed", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)


def _failure(exc: Exception) -> Verdict:
    """What went wrong before there was a status, as a reason and a sentence."""
    if isinstance(exc, TimeoutError):  # our patience, or the kernel's ETIMEDOUT
        return Verdict(False, TIMEOUT, "Request timed out.")
    if isinstance(exc, ssl.SSLError):
        why = "TLS handshake: " + (exc.reason or "no reason given").replace("_", " ").lower()
    elif isinstance(exc, OSError):
        why = os.strerror(exc.errno).lower() if exc.errno else str(exc) or "the connection was lost"
    elif isinstance(exc, asyncio.IncompleteReadError):
        why = "the target closed the connection without an answer"
    elif isinstance(exc, asyncio.LimitOverrunError | _NotHttpError):
        why = "the answer is not HTTP/1.1"
    elif isinstance(exc, BadAnswer):
        why = str(exc)
    else:
        return Verdict(False, INTERNAL_ERROR, f"The check itself failed: {exc!r}.")
    return Verdict(False, FAILED, f"Health checks failed: {why}.")


class _NotHttpError(Exception):
    """What came is not a status line."""


@asynccontextmanager
async def _connection(key: CheckKey) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at once at the end: nothing of ours is left unsent, and nothing is waited for."""
    check = key.check
    tls = name = None
    if check.protocol in ("HTTPS", "GRPCS"):
        proof = check.tls or UNPROVEN
        tls, name = target_context(proof, ALPN[check.protocol]), server_name(proof, key.ip)
    header = build_local(check.proxy_protocol) if check.proxy_protocol else b""
    sock = await connect_socket(key.ip, key.port, header)
    try:
        reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=MAX_LINE)
    except BaseException:
        sock.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _authority(key: CheckKey) -> str:
    return UNIX_SERVER_NAME if is_unix(key.ip) else endpoint_key(key.ip, key.port)


async def _call(key: CheckKey, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Verdict:
    """A gRPC call, up to its status."""
    call = GrpcCall(_authority(key), key.check.path, secure=key.check.protocol == "GRPCS")
    writer.write(call.opening())
    while call.answer is None:
        data = await reader.read(MAX_REST)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        writer.write(call.feed(data))
    verdict = _judge(key, call.answer.status)
    if verdict.ok and call.answer.serving is False:
        return Verdict(False, FAILED, "Health checks failed: the target says that it does not serve.")
    return verdict


def _request(key: CheckKey) -> bytes:
    return (
        f"GET {key.check.path} HTTP/1.1\r\n"
        f"Host: {_authority(key)}\r\n"
        "User-Agent: ELB-HealthChecker/2.0\r\n"  # what ALB says: origins know it and leave it out of their logs
        "Connection: close\r\n\r\n"
    ).encode()


async def _read_status(reader: asyncio.StreamReader) -> int:
    """The final answer's status; interim ones (a 103 with hints, say) are read over."""
    for _ in range(MAX_INTERIM):
        match = _STATUS_LINE.fullmatch(await reader.readuntil(b"\r\n"))
        if match is None:
            raise _NotHttpError
        status = int(match[1])
        if status >= 200 or status == 101:  # 101 is final: nothing of HTTP follows it
            return status
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    raise _NotHttpError


def _judge(key: CheckKey, status: int) -> Verdict:
    if any(low <= status <= high for low, high in key.check.matcher):
        return PASSED
    return Verdict(False, MISMATCH, f"Health checks failed with these codes: [{status}]")


async def _read_rest(reader: asyncio.StreamReader) -> None:
    """Until the origin has said everything, or enough. Nothing that happens here changes the verdict."""
    rest = 0
    try:
        async with asyncio.timeout(REST_PATIENCE):
            while rest < MAX_REST and (chunk := await reader.read(MAX_REST)):
                rest += len(chunk)
    except OSError:  # too slow (TimeoutError is one), or reset in the middle of a body
        pass
