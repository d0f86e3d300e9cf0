"""DNS over UDP through every name server: CPU per query."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import dnslib
from measure import Settings, dns_sample
from name_servers import NAME_SERVERS
from peers import ADDRESSES, NAME, DnsPlan
from results import Result, Table, noted
from servers import BenchError, Server, free_port

ROW = "A, three answers"


def bench_dns(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    table = Table("DNS over UDP", "µs CPU per query", (ROW,))
    queries = folder / "queries"
    queries.write_text(f"{NAME} A\n")
    running: list[tuple[str, Server, int]] = []
    for peer in NAME_SERVERS:
        if (program := peer.path()) is None:
            table.missing.append(f"{peer.name}: not installed ({peer.install})")
            continue
        plan = DnsPlan(folder, free_port(), free_port())
        server = Server(peer.name, [program, *peer.prepare(plan)], core=settings.server_core, folder=folder)
        stack.callback(server.stop)
        try:
            server.wait_until(lambda port=plan.port: dns_answers(port))
        except BenchError as exc:
            table.missing.append(f"{peer.name}: {exc}")
            continue
        table.peers.append(peer.name)
        table.versions[peer.name] = peer.version()
        running.append((peer.name, server, plan.port))
    for number in range(settings.rounds):
        for name, server, port in running:
            with noted(table, name, ROW):
                if number == 0:
                    dns_sample(server.pid, port, queries, core=settings.load_core, seconds=1)
                seconds = settings.short
                table.add(ROW, name, dns_sample(server.pid, port, queries, core=settings.load_core, seconds=seconds))
        print(f"{table.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)
    return [table]


def dns_answers(port: int) -> bool:
    """Whether the name has its three addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", port))
        sock.send(dnslib.DNSRecord.question(NAME).pack())
        answer = dnslib.DNSRecord.parse(sock.recv(4096))
    return sorted(str(record.rdata) for record in answer.rr) == sorted(ADDRESSES)
