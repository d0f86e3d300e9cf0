"""Connections on which nothing happens: what memory each takes, and whether WebSockets outlive reloads."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from holder import PLAIN, WEBSOCKET, Holder, affordable
from http_bench import start_proxies
from measure import Settings, resident_bytes
from origins import write_certificate
from peers import HttpPlan
from penstock_configs import Size
from reloading import Reloaded
from results import PENSTOCK, Facts, Result
from servers import BenchError, Server, free_port, http_answers

CONNECTIONS = 10_000
MEMORY_PEERS = (PENSTOCK, "HAProxy", "nginx")
RELOADS = 100
# Held before memory is looked at: whatever is made once is made by then.
FIRST_CONNECTIONS = 200
# The goal for Penstock, and how long a server may take to give back what accepting took.
KIB_PER_CONNECTION = 12
SETTLE_SECONDS = 1.0


def bench_memory(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    facts = Facts("Memory of idle kept-alive connections", ("", "KiB per connection", "MiB with all held"))
    count = affordable(CONNECTIONS, 1)
    facts.notes.append(
        f"The difference of resident memory between {FIRST_CONNECTIONS} and {count} connections, each after one "
        "request, divided by their number. What the kernel keeps for a connection is in no process and not in it."
    )
    for proxy in start_proxies(MEMORY_PEERS, facts.missing, settings, folder, stack):
        try:
            with Holder(proxy.plan.http) as holder:
                holder.hold(FIRST_CONNECTIONS, PLAIN)
                time.sleep(SETTLE_SECONDS)
                before = resident_bytes(proxy.server.pid)
                holder.hold(count - FIRST_CONNECTIONS, PLAIN)
                time.sleep(SETTLE_SECONDS)
                after = resident_bytes(proxy.server.pid)
                if closed := holder.closed():
                    raise BenchError(f"closed {closed} of {count} connections that were to be held")
        except BenchError as exc:
            facts.missing.append(f"{proxy.name}: {exc}")
            continue
        each = (after - before) / (count - FIRST_CONNECTIONS) / 1024
        facts.versions[proxy.name] = proxy.version
        facts.rows.append([proxy.name, f"{each:.1f}", f"{after / 2**20:.0f}"])
        if proxy.name == PENSTOCK and each > KIB_PER_CONNECTION:
            facts.notes.append(f"missed: {each:.1f} KiB per connection; the goal is {KIB_PER_CONNECTION}")
        print(f"{facts.title}: {proxy.name} done", file=sys.stderr)
    return [facts]


def bench_websockets(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    facts = Facts(
        "Idle WebSockets through reloads", ("WebSockets", "reloads", "closed", "echo afterwards", "per reload")
    )
    count = affordable(CONNECTIONS, 2)  # the proxy has one to the client and one to the origin
    if count < CONNECTIONS:
        facts.notes.append(f"{count} and not {CONNECTIONS}: the limit of open files here allows no more")
    port = free_port()
    origin = Server("origin", [sys.executable, str(Path(__file__).with_name("websocket_origin.py")), str(port)],
                    core=settings.load_core, folder=folder)  # fmt: skip
    stack.callback(origin.stop)
    origin.wait_until(lambda: http_answers(port, "/"))
    plan = HttpPlan(folder, free_port(), free_port(), free_port(), (port, port), *write_certificate(folder))
    penstock = Reloaded("websockets", plan, Size(), settings.server_core, stack)
    with Holder(plan.http) as holder:
        holder.hold(count, WEBSOCKET)
        began = time.monotonic()
        for _ in range(RELOADS):
            penstock.reload()
        each = (time.monotonic() - began) / RELOADS
        closed = holder.closed()
        facts.rows.append([f"{count}", f"{RELOADS}", f"{closed}", f"{holder.echoed()}", f"{each * 1000:.0f} ms"])
    if closed:
        facts.notes.append(f"missed: {closed} were closed; the goal is none")
    return [facts]
