"""HTTP through every proxy: CPU per request or connection, and the latency that a proxy adds.

All proxies run at once and idle but for the one that is measured, so that rounds can be interleaved.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from measure import (
    Latencies,
    Sample,
    Settings,
    http2_sample,
    http_sample,
    paced_command,
    read_latencies,
    run_load,
    tls_connections_sample,
)
from origins import start_origin, write_certificate
from peers import HttpPlan, Peer
from proxies import LOG_FILES, PROXIES
from results import PENSTOCK, Facts, Goal, Result, Table, noted
from servers import BenchError, Server, free_port, http_answers

HERE = Path(__file__).parent

# A measurement of one row: the server's process, where it listens, and for how long on which core.
Load = Callable[[int, HttpPlan, str, float], Sample]


def _wrk(path: str = "/", *, script: str | None = None, tls: bool = False, close: bool = False) -> Load:
    def load(pid: int, plan: HttpPlan, core: str, seconds: float) -> Sample:
        url = f"https://127.0.0.1:{plan.https}" if tls else f"http://127.0.0.1:{plan.http}"
        file = HERE / script if script else None
        return http_sample(pid, url + path, core=core, seconds=seconds, script=file, close=close)

    return load


def _new_tls(pid: int, plan: HttpPlan, core: str, seconds: float) -> Sample:
    return tls_connections_sample(pid, f"https://127.0.0.1:{plan.https}/", core=core, seconds=seconds)


def _http2(pid: int, plan: HttpPlan, core: str, seconds: float) -> Sample:
    return http2_sample(pid, f"https://127.0.0.1:{plan.https}/", core=core, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the results. `goals` are the peers beside whom Penstock may cost so many times as much."""

    title: str
    load: Load
    goals: tuple[tuple[str, float], ...]


_SAME_HEAD = Work("small answer, same head", _wrk(), (("HAProxy", 1.0), ("Envoy", 0.6)))
_UNIQUE_PATH = Work("unique path, browser headers", _wrk(script="unique_path.lua"), (("HAProxy", 1.0), ("Envoy", 0.6)))
KEEP_ALIVE = (
    _SAME_HEAD,
    _UNIQUE_PATH,
    Work("unique path and one unique header", _wrk(script="unique_header.lua"), (("HAProxy", 1.2),)),
    Work("1 MiB answer", _wrk("/big"), (("HAProxy", 1.0),)),
    Work("TLS keep-alive, small answer", _wrk(tls=True), (("HAProxy", 1.1),)),
)
LOGGED = (_SAME_HEAD, _UNIQUE_PATH)
NEW_CONNECTIONS = (
    Work("new connection", _wrk(close=True), (("HAProxy", 1.0),)),
    Work("new TLS connection", _new_tls, (("HAProxy", 1.1),)),
)
HTTP2 = (Work("small answer over HTTP/2 and TLS", _http2, (("nginx", 3.0),)),)


def bench_keep_alive(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = _table("HTTP/1.1 keep-alive, 64 connections", "µs CPU per request", KEEP_ALIVE)
    return [_compare(table, KEEP_ALIVE, settings, settings.seconds, folder, stack)]


def bench_logged(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = _table("The same with access logs", "µs CPU per request", LOGGED)
    table.notes.append(
        "Each writes to a file in its usual format (Penstock ALB's, HAProxy httplog, nginx combined). Penstock, nginx "
        "and Envoy write in batches; HAProxy has no file of its own, writes to its standard output, and does so line "
        "by line, as Caddy does."
    )
    return [_compare(table, LOGGED, settings, settings.short, folder, stack, log=True)]


def bench_connections(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = _table("New connections, one request each", "µs CPU per connection", NEW_CONNECTIONS)
    table.notes.append(
        "Plain ones as fast as 64 clients get them; TLS ones (1.3, ECDSA P-256, never resumed) 500 a second, for "
        "h2load can pace connections but not close and open them in turn, and wrk resumes sessions."
    )
    return [_compare(table, NEW_CONNECTIONS, settings, settings.short, folder, stack)]


def bench_http2(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = _table("HTTP/2, 8 connections with 10 streams each", "µs CPU per request", HTTP2)
    return [_compare(table, HTTP2, settings, settings.short, folder, stack)]


def _table(title: str, unit: str, works: Sequence[Work]) -> Table:
    goals = [Goal(work.title, peer, most) for work in works for peer, most in work.goals]
    return Table(title, unit, tuple(work.title for work in works), goals=goals)


@dataclass(frozen=True, slots=True)
class Running:
    name: str
    version: str
    server: Server
    plan: HttpPlan


def start_proxies(
    names: Sequence[str], missing: list[str], settings: Settings, folder: Path, stack: ExitStack, *, log: bool = False
) -> list[Running]:
    """Those of `names` that are installed and come up; of each other one a line in `missing` says why not."""
    origins = start_origin(folder, settings.load_core, stack)
    certificate, key, pem = write_certificate(folder)
    running: list[Running] = []
    for peer in PROXIES:
        if peer.name not in names:
            continue
        plan = HttpPlan(folder, free_port(), free_port(), free_port(), origins, certificate, key, pem, log)
        try:
            server = start_peer(peer, plan, settings, stack)
            server.wait_until(
                lambda plan=plan: http_answers(plan.http, "/big") and http_answers(plan.https, "/", tls=True)
            )
        except BenchError as exc:
            missing.append(f"{peer.name}: {exc}")
            continue
        running.append(Running(peer.name, peer.version(), server, plan))
    return running


def start_peer(peer: Peer[HttpPlan], plan: HttpPlan, settings: Settings, stack: ExitStack) -> Server:
    program = peer.path()
    if program is None:
        raise BenchError(f"not installed ({peer.install})")
    server = Server(peer.name, [program, *peer.prepare(plan)], core=settings.server_core, folder=plan.folder)
    stack.callback(server.stop)
    return server


def _compare(
    table: Table, works: Sequence[Work], settings: Settings, seconds: float, folder: Path, stack: ExitStack,
    *, log: bool = False,
) -> Table:  # fmt: skip
    proxies = start_proxies([peer.name for peer in PROXIES], table.missing, settings, folder, stack, log=log)
    table.peers += [proxy.name for proxy in proxies]
    table.versions |= {proxy.name: proxy.version for proxy in proxies}
    for proxy in proxies:
        with noted(table, proxy.name, works[0].title):
            works[0].load(proxy.server.pid, proxy.plan, settings.load_core, 1)  # warms connections and caches
    for number in range(settings.rounds):
        for work in works:
            for proxy in proxies:
                with noted(table, proxy.name, work.title):
                    table.add(
                        work.title, proxy.name, work.load(proxy.server.pid, proxy.plan, settings.load_core, seconds)
                    )
                _empty_logs(folder)
        print(f"{table.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)
    return table


def _empty_logs(folder: Path) -> None:
    """Hundreds of megabytes a minute. All are appended to, so that they go on at their new end."""
    for name in LOG_FILES:
        if (folder / name).exists():
            os.truncate(folder / name, 0)


def bench_latency(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    """Penstock and HAProxy at the same pace, which is half of what the slower one can do, and the origin without."""
    facts = Facts(
        "Latency at half of saturation", ("µs until the answer is there", "p50", "p99", "p50 added", "p99 added")
    )
    proxies = start_proxies((PENSTOCK, "HAProxy"), facts.missing, settings, folder, stack)
    if not proxies:
        return [facts]
    facts.versions = {proxy.name: proxy.version for proxy in proxies}
    ports = {"no proxy": proxies[0].plan.origins[0]} | {proxy.name: proxy.plan.http for proxy in proxies}
    saturation = min(
        http_sample(
            proxy.server.pid, f"http://127.0.0.1:{proxy.plan.http}/", core=settings.load_core, seconds=2
        ).per_second
        for proxy in proxies
    )
    seconds = max(2.0, settings.short)
    measured: dict[str, list[Latencies]] = {name: [] for name in ports}
    for number in range(settings.rounds):
        for name, port in ports.items():
            log = folder / "latencies"
            run_load(paced_command(f"http://127.0.0.1:{port}/", saturation / 2, seconds, log), settings.load_core)
            measured[name].append(read_latencies(log))
            log.unlink()
        print(f"{facts.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)
    facts.notes.append(
        f"{saturation / 2:.0f} requests a second for all: half of what 64 connections in turn get from the slower of "
        "the two. h2load --h1 --rps, 16 connections: their timers begin together, so requests come in small bursts, "
        "with and without a proxy alike. Load and origin share a core; that is in all figures."
    )
    facts.rows += latency_rows(measured, "no proxy")
    for name, samples in measured.items():
        if failed := sum(sample.failed for sample in samples):
            facts.notes.append(f"{name}: {failed} requests failed")
    return [facts]


def latency_rows(measured: dict[str, list[Latencies]], baseline: str) -> list[list[str]]:
    """The median of the rounds of each percentile, and what it is more than the baseline's."""
    p50 = {name: statistics.median(sample.median for sample in samples) for name, samples in measured.items()}
    p99 = {name: statistics.median(sample.p99 for sample in samples) for name, samples in measured.items()}
    rows: list[list[str]] = []
    for name in measured:
        added = (p50[name] - p50[baseline], p99[name] - p99[baseline])
        rows.append([name, f"{p50[name]:.0f}", f"{p99[name]:.0f}",
                     *("" if name == baseline else f"{more:+.0f}" for more in added)])  # fmt: skip
    return rows
