"""One worker process: a running whole without checks and admin address, which does what its supervisor says.

`python -m penstock.control.worker CHANNEL SOCKETS NUMBER FORMAT`, the first two being descriptors, is started by
workers.py and of no use to anybody else. When the supervisor is gone it drains and ends. Signals are the supervisor's
to hear: Ctrl-C reaches every process of a terminal and `systemctl stop` every process of a service, and a worker that
ended by itself would end too soon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvloop

from .change import Prepared
from .channel import (
    Abort,
    Addresses,
    Channel,
    Commit,
    Count,
    Explain,
    Health,
    Hello,
    Prepare,
    Registered,
    ReopenAccessLog,
    Stop,
    TicketKey,
    WindDown,
)
from .descriptors import take_over
from .exits import CannotApply
from .explain import live_report
from .interpreter import hush_bad_server_names, spare_the_collector, switch_threads_fast
from .logs import LogFormat, log_to_stderr
from .runtime import Runtime
from .totals import Snapshot, snapshot
from .version import VERSION

if TYPE_CHECKING:
    from ..dns.registrations import Entries
    from .config import Settings

log = logging.getLogger("penstock.worker")

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Worker:
    def __init__(self, channel: Channel, line: socket.socket) -> None:
        self._channel = channel
        self._line = line  # where listening sockets come
        self._runtime = Runtime(sharing="shared")
        self._prepared: Prepared | None = None
        self._stop = asyncio.get_running_loop().create_future()  # the grace, once there is to be an end

    async def run(self) -> None:
        self._channel.send(0, Hello(VERSION))
        obeying = asyncio.create_task(self._obey(), name="orders")
        obeying.add_done_callback(self._no_more_orders)
        grace = await self._stop
        await self._runtime.stop(grace)
        self._channel.send(0, self._counted())
        await self._channel.flush()
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)
        self._channel.close()

    async def _obey(self) -> None:
        runtime, channel = self._runtime, self._channel
        while (received := await channel.receive()) is not None:
            number, order = received
            match order:
                case Prepare(settings, health, addresses, ticket_key, sockets, registered):
                    runtime.health.adopt(health, whole=False)
                    runtime.use_addresses(addresses)
                    runtime.proxy.use_ticket_key(ticket_key)
                    channel.send(number, await self._prepare(settings, sockets, registered))
                case Commit():
                    self._commit()
                    await runtime.settle_services()  # names may have moved since it was prepared
                    channel.send(number, None)
                case Abort():
                    self._abort()
                    await runtime.settle_services()
                case Health(records, whole):
                    runtime.health.adopt(records, whole=whole)
                case Addresses(addresses, health):
                    runtime.health.adopt(health, whole=False)
                    runtime.use_addresses(addresses)
                    if self._prepared is None:
                        await runtime.settle_services()
                case Registered(key, instance):
                    runtime.overlay.hear(key, instance)
                case TicketKey(key):
                    runtime.proxy.use_ticket_key(key)
                case Count():
                    channel.send(number, self._counted())
                case Explain(request_id):
                    channel.send(number, self._explained(request_id))
                case ReopenAccessLog():
                    runtime.reopen_logs()
                case WindDown():
                    runtime.wind_down()
                case Stop(grace) if not self._stop.done():
                    self._stop.set_result(grace)

    async def _prepare(self, settings: Settings, sockets: tuple[str, ...], registered: Entries) -> str | None:
        handed = take_over(self._line, sockets)
        self._runtime.proxy.handed = handed
        try:
            self._prepared = await self._runtime.prepare(settings, registered)
        except CannotApply as error:
            return str(error)
        except Exception as error:  # a bug of ours in a new configuration must not end a process that serves the old
            log.exception("the configuration cannot be applied")
            return f"{type(error).__name__}: {error}"
        finally:
            self._runtime.proxy.handed = {}
            for each in handed.values():  # listeners have duplicates
                each.close()
        return None

    def _commit(self) -> None:
        assert self._prepared is not None
        first = self._runtime.settings is None
        self._prepared.commit()
        self._prepared = None
        if first:
            spare_the_collector()

    def _explained(self, request_id: bytes) -> dict[str, Any] | None:
        try:
            found = self._runtime.proxy.explain(request_id)
            return None if found is None else live_report(*found)
        except Exception:  # a bug of ours in answering a question must not end a process that serves
            log.exception("request %r cannot be explained", request_id)
            return None

    def _abort(self) -> None:
        if self._prepared is not None:
            self._prepared.abort()
            self._prepared = None

    def _no_more_orders(self, obeying: asyncio.Task[None]) -> None:
        self._abort()
        if self._stop.done():
            return
        if not obeying.cancelled() and (error := obeying.exception()) is not None:
            self._stop.set_exception(error)  # a bug of ours: end, and be replaced
            return
        log.warning("the supervisor is gone: draining")
        self._stop.set_result(None)

    def _counted(self) -> Snapshot:
        counted = snapshot(self._runtime.proxy, self._runtime.dns.counters, self._runtime.dns.top_names)
        times = os.times()
        counted.cpu_seconds = times.user + times.system
        counted.resident_bytes = _resident_bytes()
        counted.out_of_descriptors = int(self._runtime.proxy.intake.is_full())
        return counted


def _resident_bytes() -> int:
    """Now, where there is /proc; elsewhere the most it ever was, which macOS counts in bytes."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def work(end: socket.socket, line: socket.socket) -> None:
    with line:
        await Worker(await Channel.over(end), line).run()


def main(channel: str, sockets: str, number: str, log_format: str) -> None:
    for ignored in IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    log_to_stderr(cast("LogFormat", log_format), worker=int(number))
    switch_threads_fast()
    hush_bad_server_names()
    uvloop.run(work(socket.socket(fileno=int(channel)), socket.socket(fileno=int(sockets))))


if __name__ == "__main__":
    main(*sys.argv[1:])
