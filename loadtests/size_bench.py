"""Penstock beside itself: what large configurations, their reloads, and a second worker cost."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from measure import Latencies, Settings, http_sample, paced_command, read_latencies, resident_bytes
from origins import start_origin, write_certificate
from peers import HttpPlan
from penstock_configs import Size, target_addresses
from reloading import Reloaded
from results import Facts, Goal, Result, Table, noted
from servers import free_port

HERE = Path(__file__).parent

# A thousand targets are probed every 30 s, AWS's default, and to be alike so are the two of the small configuration.
SMALL = Size(interval="30s")
TARGETS = 1000
LARGE = {
    "10,000 rules": replace(SMALL, rules=10_000),
    "10,000 CIDRs": replace(SMALL, sources=10_000),
    "1,000 targets": replace(SMALL, targets=TARGETS),
    "all three": replace(SMALL, rules=10_000, sources=10_000, targets=TARGETS),
}
HOSTS_ROW = "keep-alive, 10,000 hosts in turn"
CONNECTIONS_ROW = "new connection, one request"

# Load during reloads, and for how long: well within what one core does, and longer than a reload may take.
RELOAD_REQUESTS_PER_SECOND = 5000
RELOAD_LOAD_SECONDS = 5
RELOAD_GOAL_SECONDS = 2.0


def bench_size(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = Table(
        "Large configurations", "µs CPU", (HOSTS_ROW, CONNECTIONS_ROW), base="small", over_base=True,
        goals=[Goal(row, name, 1.1) for row in (HOSTS_ROW, CONNECTIONS_ROW) for name in LARGE],
    )  # fmt: skip
    table.notes.append(
        "What follows x is the large configuration's figure over the small one's: one rule, two CIDRs, two targets."
    )
    origins = start_origin(folder, settings.load_core, stack, target_addresses(TARGETS))
    files = write_certificate(folder)
    servers: dict[str, Reloaded] = {}
    for name, size in {"small": SMALL, **LARGE}.items():
        plan = HttpPlan(folder, free_port(), free_port(), free_port(), origins, *files)
        servers[name] = Reloaded(name.replace(" ", "-"), plan, size, settings.server_core, stack)
        table.peers.append(name)
    for number in range(-1, settings.rounds):
        for row in table.rows:
            for name, server in servers.items():
                with noted(table, name, row):
                    sample = http_sample(
                        server.pid, f"http://127.0.0.1:{server.plan.http}/", core=settings.load_core,
                        seconds=settings.short, script=HERE / "many_hosts.lua", close=row == CONNECTIONS_ROW,
                    )  # fmt: skip
                    if number >= 0:  # the first only connects to a thousand targets, and fills caches
                        table.add(row, name, sample)
        print(f"{table.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)
    memory = ", ".join(f"{name} {resident_bytes(server.pid) / 2**20:.0f} MiB" for name, server in servers.items())
    table.notes.append(f"Resident memory: {memory}.")
    return [table, _reloads(servers, settings, folder)]


def _reloads(servers: dict[str, Reloaded], settings: Settings, folder: Path) -> Facts:
    facts = Facts(
        "Reloads under load",
        ("configuration", "seconds until served", "requests meanwhile", "lost", "p50, µs", "longest, ms"),
    )
    facts.notes.append(
        f"From SIGHUP until a new connection is served by the new configuration, while {RELOAD_REQUESTS_PER_SECOND} "
        f"requests a second come for {RELOAD_LOAD_SECONDS} s."
    )
    for name in ("small", "all three"):
        reloads = [_reload_under_load(servers[name], settings, folder) for _ in range(settings.rounds)]
        took = [seconds for seconds, _ in reloads]
        lost = sum(latencies.failed for _, latencies in reloads)
        facts.rows.append([
            name, f"{statistics.median(took):.2f} ({min(took):.2f}-{max(took):.2f})",
            f"{sum(latencies.count for _, latencies in reloads)}", f"{lost}",
            f"{statistics.median(latencies.median for _, latencies in reloads):.0f}",
            f"{max(latencies.longest for _, latencies in reloads) / 1000:.0f}",
        ])  # fmt: skip
        if lost:
            facts.notes.append(f"missed: {name}, {lost} requests lost; the goal is none")
        if max(took) > RELOAD_GOAL_SECONDS:
            facts.notes.append(f"missed: {name}, {max(took):.2f} s; the goal is {RELOAD_GOAL_SECONDS:g} s")
    print(f"{facts.title}: done", file=sys.stderr)
    return facts


def _reload_under_load(server: Reloaded, settings: Settings, folder: Path) -> tuple[float, Latencies]:
    log = folder / "latencies"
    url = f"http://127.0.0.1:{server.plan.http}/"
    command = paced_command(url, RELOAD_REQUESTS_PER_SECOND, RELOAD_LOAD_SECONDS, log)
    with subprocess.Popen(["taskset", "--cpu-list", settings.load_core, *command],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as load:  # fmt: skip
        try:
            time.sleep(0.5)  # until it is at its pace
            seconds = server.reload()
            load.wait()
        finally:
            load.kill()
    latencies = read_latencies(log)
    log.unlink()
    return seconds, latencies


WORKERS = {"one worker": Size(), "two workers": Size(workers=2)}
WORKER_ROWS = {"small answer, same head": None, "unique path, browser headers": "unique_path.lua"}


def bench_workers(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = Table(
        "Two workers", "µs CPU per request", tuple(WORKER_ROWS), base="one worker", over_base=True,
        goals=[Goal(row, "two workers", 1.1) for row in WORKER_ROWS],
    )  # fmt: skip
    table.notes.append(
        "Both may use both cores and compete there with load and origins, so this is about CPU per request, not about "
        "throughput. All processes are counted, the supervisor too."
    )
    origins = start_origin(folder, settings.load_core, stack)
    files = write_certificate(folder)
    servers: dict[str, Reloaded] = {}
    cores = f"{settings.load_core},{settings.server_core}"
    for name, size in WORKERS.items():
        plan = HttpPlan(folder, free_port(), free_port(), free_port(), origins, *files)
        servers[name] = Reloaded(name.replace(" ", "-"), plan, size, cores, stack)
        table.peers.append(name)
    for number in range(-1, settings.rounds):
        for row, script in WORKER_ROWS.items():
            for name, server in servers.items():
                with noted(table, name, row):
                    sample = http_sample(
                        server.pid, f"http://127.0.0.1:{server.plan.http}/", core=settings.load_core,
                        seconds=settings.short, script=HERE / script if script else None,
                    )  # fmt: skip
                    if number >= 0:  # the first warms caches and connections
                        table.add(row, name, sample)
        print(f"{table.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)
    two = servers["two workers"]
    http_sample(two.pid, f"http://127.0.0.1:{two.plan.http}/", core=settings.load_core, seconds=1, close=True)
    time.sleep(5.5)  # workers say what they count every five seconds
    table.notes.append(spread(_worker_connections(two.plan.admin)))
    return [table]


def _worker_connections(port: int) -> list[int]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy
    with direct.open(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        status: dict[str, Any] = json.loads(answer.read())
    return [worker["connections"] for worker in status["workers"]]


def spread(connections: list[int]) -> str:
    """How evenly the kernel dealt connections: the busiest worker's share over an even one."""
    ratio = max(connections) / statistics.mean(connections) if any(connections) else 0.0
    dealt = " and ".join(map(str, connections))
    word = "" if ratio <= 1.2 else ", missed: the goal is 1.2"
    return f"Connections dealt to the workers: {dealt}; the most over the mean is {ratio:.2f}{word}."
