"""One process from its first line to its last: load, start, obey signals, drain, end.

The library half of `penstock run`. What goes wrong on the way in is raised (ConfigurationError, UnreadableError,
CannotApply), for the command line to say and for a caller to catch; once it serves, nothing but a signal ends it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import uvloop

from .config import load
from .exits import host_port
from .interpreter import (
    collector_at_rest,
    hush_bad_server_names,
    spare_the_collector,
    switch_threads_fast,
)
from .processors import worker_count
from .reload import Reloader
from .runtime import Runtime

log = logging.getLogger("penstock")

# Seconds that ending may take beyond the drain that was asked for. What takes longer hangs: a file system that does
# not answer a reload's thread, say. HAProxy's hard-stop-after and nginx's worker_shutdown_timeout have no default,
# and their users find old processes.
HARD_STOP = 10.0


def run(path: str | Path, *, watch: bool = True) -> None:
    """Serve what the file at `path` says until SIGTERM or SIGINT. SIGHUP, or `watch` and a change of it, reload."""
    run_to_the_end(serve(Path(path), watch=watch))


def run_to_the_end(serving: Coroutine[None, None, None]) -> None:
    """Run it on a loop of its own, and hear no more signals once it is done.

    What is left then is closing the loop, and a KeyboardInterrupt in the middle of that is a traceback. A second signal
    is common: `timeout` sends one to the process and one to its group, as a terminal does with what make started.
    Closing the loop waits for its threads, and one of them may hang.
    """

    async def deaf_in_the_end() -> None:
        await serving
        asyncio.get_running_loop().call_later(HARD_STOP, os._exit, 0)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    uvloop.run(deaf_in_the_end())


async def serve(path: Path, *, watch: bool = True, announce: Callable[[Runtime], None] | None = None) -> None:
    """The same on a running loop. `announce` is called once, when everything listens; else the log says where."""
    loop = asyncio.get_running_loop()
    with collector_at_rest():
        loaded = load(path, now=time.time(), materialize=True)
        warnings = loaded.all_warnings
    for warning in warnings:
        log.warning("%s", warning)
    _raise_descriptor_limit()
    switch_threads_fast()
    hush_bad_server_names()

    runtime = Runtime(workers=worker_count(loaded.settings.workers))
    reloader = Reloader(path, runtime, loaded, watch=watch)
    stopping: asyncio.Future[float] = loop.create_future()

    def stop(number: signal.Signals) -> None:
        if stopping.done():
            log.warning("%s again: ending at once", number.name)
            runtime.kill_workers()
            os._exit(128 + number)  # whatever still runs was given its chance
        grace = runtime.wind_down()  # /readyz says 503 before anything else happens
        if number == signal.SIGINT or not grace:  # a person at a terminal does not wait for probes
            log.info("%s: draining", number.name)
            stopping.set_result(0.0)
        else:
            log.info("%s: no longer ready, accepting for %g s more", number.name, grace)
            stopping.set_result(grace)

    def reload() -> None:
        runtime.reopen_logs()  # who rotates it with this signal means that too
        reloader.request()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, runtime.reopen_logs)  # what logrotate sends to nginx and to us
    try:
        await runtime.start(loaded.settings)
        spare_the_collector()
        reloading = asyncio.create_task(reloader.run(), name="reloader")
        try:
            (announce or _log)(runtime)
            if grace := await stopping:
                await asyncio.sleep(grace)
                log.info("draining")
        finally:
            hard_stop = loop.call_later(runtime.drain + HARD_STOP, _end_by_force, runtime)
            reloading.cancel()
            await asyncio.gather(reloading, return_exceptions=True)
            await runtime.stop()
            hard_stop.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            loop.remove_signal_handler(number)
    log.info("ended")


def _end_by_force(runtime: Runtime) -> None:
    log.error("still not ended %g s after the drain: ending at once", HARD_STOP)
    runtime.kill_workers()
    os._exit(128 + signal.SIGTERM)


def _log(runtime: Runtime) -> None:
    for line in listening(runtime):
        log.info("%s", line)
    if not runtime.bound:
        log.warning("nothing listens: the configuration has no listeners, no dns: and no admin:")


def listening(runtime: Runtime) -> list[str]:
    """One line for every address that is listened on."""
    lines = [
        f"listening on {host_port(*listener.bound)} ({listener.spec.protocol}, {listener.spec.load_balancer})"
        for listener in runtime.proxy.listeners.values()
    ]
    lines += [f"listening on {host_port(*bound)} (DNS, UDP and TCP)" for bound in runtime.dns.bound]
    lines += [
        f"listening on {host_port(address, port)} (DNS over {protocol})"
        for address, port, protocol in runtime.dns.bound_secure
    ]
    if runtime.admin.bound is not None:
        lines.append(f"listening on {host_port(*runtime.admin.bound)} (admin)")
    if runtime.workers is not None:
        processes = ", ".join(str(worker.process_id) for worker in runtime.workers.statuses())
        lines.append(f"served by {runtime.workers.count} workers, processes {processes}")
    return lines


def _raise_descriptor_limit() -> None:
    """Two descriptors a proxied connection: the soft limit of 1024 that select(2) needs is 500 clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # macOS refuses its own "unlimited"
            log.warning("the limit of open files stays at %d: %s", soft, error)
