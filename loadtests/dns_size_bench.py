"""Penstock's DNS beside itself: many names, a second worker, and HTTP at full load in the same process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from dns_bench import WORKS, addresses
from measure import Settings, dns_latencies, dns_sample, dns_several_times, resident_bytes
from name_servers import penstock_yaml
from origins import start_origin, write_certificate
from peers import ADDRESSES, NAME, DnsPlan, HttpPlan
from penstock_configs import Size
from penstock_configs import penstock_yaml as http_yaml
from results import Facts, Goal, Result, Table, noted
from servers import BenchError, Server, free_port, http_answers

HERE = Path(__file__).parent

SIZES = {"100 instances": 100, "100,000 instances": 100_000}
SERVICE_SIZE = 8
TURNS = 2 * SERVICE_SIZE  # until every order of a service's instances has come up, by weights of 1 to 3
BYTES_GOAL, MILLISECONDS_GOAL = 2048, 1.0
QUERIES_PER_SECOND, P99_GOAL = 1000, 20.0  # milliseconds
_ROW = "A and SRV, all services in turn"


def bench_dns_size(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = Table("DNS, many names", "µs CPU per query", (_ROW,), base="100 instances", over_base=True,
                  goals=[Goal(_ROW, "100,000 instances", 1.0)])  # fmt: skip
    facts = Facts("DNS, changes", ("instances", "fail one, ms", "register one, ms", "deregister one, ms"))
    facts.notes.append("What the loop is busy with one change, median (worst) of 300; in services of eight.")
    running: list[tuple[str, Server, int, Path]] = []
    for name, instances in SIZES.items():
        port, said = free_port(), folder / f"registry-{instances}.out"
        command = [sys.executable, str(HERE / "dns_registry.py"), str(port), str(instances)]
        server = Server(said.stem, command, core=settings.server_core, folder=folder)
        stack.callback(server.stop)
        server.wait_until(lambda said=said: said.read_text().endswith("}\n"), seconds=60)
        found = json.loads(said.read_text())
        times = [found[change] for change in ("fail", "register", "deregister")]
        facts.rows.append([f"{instances:,}", *(f"{median:.3f} ({worst:.1f})" for median, worst in times)])
        if any(median > MILLISECONDS_GOAL for median, _ in times):
            facts.notes.append(f"missed: {name}, the goal is {MILLISECONDS_GOAL:g} ms")
        queries = folder / f"services-{instances}"
        names = [f"s{number}.services" for number in range(instances // SERVICE_SIZE)]
        queries.write_text("".join(f"{each} A\n{each} SRV\n" for each in names))
        table.peers.append(name)
        running.append((name, server, port, queries))
        if instances == max(SIZES.values()):  # of fewer, the interpreter itself is most
            facts.notes.append(_memory("before any was asked for", found["bytes"] * instances, instances))
    for _, _, port, queries in running:
        dns_several_times(port, queries, TURNS, core=settings.load_core)
    few, many = (resident_bytes(server.pid) for _, server, _, _ in running)
    facts.notes.append(_memory("after all were asked for", many - few, max(SIZES.values()) - min(SIZES.values())))
    for number in range(settings.rounds):
        for name, server, port, queries in running:
            with noted(table, name, _ROW):
                sample = dns_sample(server.pid, port, queries, core=settings.load_core, seconds=settings.short)
                table.add(_ROW, name, sample)
        print(f"{table.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)
    return [table, facts, _workers(settings, folder, stack), _beside_http(settings, folder, stack)]


def _memory(when: str, octets: float, instances: int) -> str:
    each = octets / instances
    word = "" if each <= BYTES_GOAL else f", missed: the goal is {BYTES_GOAL / 1024:g}"
    return f"Memory {when}: {each / 1024:.2f} KiB per instance{word}."


def _workers(settings: Settings, folder: Path, stack: ExitStack) -> Table:
    work = WORKS[0]
    table = Table("DNS, two workers", "µs CPU per query", (work.title,), base="one worker", over_base=True,
                  goals=[Goal(work.title, "two workers", 1.1)])  # fmt: skip
    table.notes.append("Both may use both cores, and compete there with the load. All processes are counted.")
    queries = folder / "api"
    queries.write_text(f"{NAME} A\n")
    running: list[tuple[str, Server, int]] = []
    for name, workers in (("one worker", 1), ("two workers", 2)):
        plan = DnsPlan(folder, free_port(), free_port())
        file = folder / f"workers-{workers}.yaml"
        file.write_text(penstock_yaml(plan, workers=workers))
        command = [sys.executable, "-m", "penstock.control", "run", file.name]
        cores = f"{settings.load_core},{settings.server_core}"
        server = Server(file.stem, command, core=cores, folder=folder)
        stack.callback(server.stop)
        server.wait_until(lambda port=plan.port: addresses(port, NAME) == sorted(ADDRESSES))
        table.peers.append(name)
        running.append((name, server, plan.port))
    for number in range(-1, settings.rounds):
        for name, server, port in running:
            with noted(table, name, work.title):
                sample = dns_sample(server.pid, port, queries, core=settings.load_core, seconds=settings.short)
                if number >= 0:
                    table.add(work.title, name, sample)
    return table


def _beside_http(settings: Settings, folder: Path, stack: ExitStack) -> Facts:
    """One process has both planes; wrk keeps it busy with as much HTTP as it can do."""
    facts = Facts("DNS beside HTTP", ("HTTP", "queries", "p50, ms", "p99, ms", "longest, ms"))
    facts.notes.append(
        f"{QUERIES_PER_SECOND} queries a second, to a process that does nothing else, and to one that HTTP keeps busy "
        "(wrk, 64 connections). dnsperf shares its core with wrk and origins."
    )
    origins = start_origin(folder, settings.load_core, stack)
    plan = HttpPlan(folder, free_port(), free_port(), free_port(), origins, *write_certificate(folder))
    dns = DnsPlan(folder, free_port(), plan.admin)
    _, _, ours = http_yaml(plan, Size()).partition("load_balancer:")
    theirs = re.sub(r"^(?:workers|admin|network|  vpc):.*\n", "", penstock_yaml(dns), flags=re.MULTILINE)
    network = "network:\n  vpc: {name: bench, cidr: 10.0.0.0/16}\n  subnets:\n    - {name: public, cidr: 10.0.1.0/24}\n"
    file = folder / "both.yaml"
    file.write_text(f"{network}load_balancer:{ours}{theirs}")
    command = [sys.executable, "-m", "penstock.control", "run", file.name]
    server = Server("both", command, core=settings.server_core, folder=folder)
    stack.callback(server.stop)
    server.wait_until(lambda: addresses(dns.port, NAME) == sorted(ADDRESSES) and http_answers(plan.http, "/"))
    queries, seconds = folder / "api", 2 * settings.short
    for title in ("none", "at full load"):
        with ExitStack() as load:
            if title != "none":
                wrk = [
                    "nice",
                    "-n",
                    "19",
                    "wrk",
                    "-t1",
                    "-c64",
                    f"-d{round(seconds) + 2}s",
                    f"http://127.0.0.1:{plan.http}/",
                ]
                process = subprocess.Popen(["taskset", "--cpu-list", settings.load_core, *wrk],
                                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
                load.callback(process.wait)
                load.callback(process.kill)
                time.sleep(0.5)  # until all are connected
            with suppress(BenchError):
                took = dns_latencies(dns.port, queries, QUERIES_PER_SECOND, core=settings.load_core, seconds=seconds)
                p50, p99, longest = (took[int((len(took) - 1) * part)] * 1000 for part in (0.5, 0.99, 1))
                facts.rows.append([title, f"{len(took)}", f"{p50:.1f}", f"{p99:.1f}", f"{longest:.1f}"])
                if p99 > P99_GOAL:
                    facts.notes.append(f"missed: {title}, p99 {p99:.1f} ms; the goal is {P99_GOAL:g} ms")
    return facts
