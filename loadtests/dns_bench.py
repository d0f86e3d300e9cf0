"""DNS over UDP through every name server: CPU per query."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import dnslib
from measure import Settings, dns_sample
from name_servers import BIND, FOREIGN, FOREIGN_NAMES, FORWARDERS, NAME_SERVERS
from peers import ADDRESSES, NAME, DnsPlan, Peer
from results import Goal, Result, Table, noted
from servers import BenchError, Server, free_port

# Far more than anybody remembers.
ABSENT_NAMES = 200_000
WARM_UP = 0.3  # seconds


@dataclass(frozen=True, slots=True)
class Work:
    title: str
    queries: Iterable[str]  # name and type
    rcode: str = "NOERROR"


WORKS = (
    Work("A, three answers", (f"{NAME} A",)),
    Work("SRV, three answers", (f"{NAME} SRV",)),
    Work("NXDOMAIN, one name", ("absent.services A",), "NXDOMAIN"),
    Work(
        "NXDOMAIN, always another", (f"x{n * 7919 % ABSENT_NAMES}.services A" for n in range(ABSENT_NAMES)), "NXDOMAIN"
    ),
)
FORWARDED = (Work("A, forwarded and cached", [f"n{n}.{FOREIGN} A" for n in range(FOREIGN_NAMES)]),)


@dataclass(frozen=True, slots=True)
class Running:
    server: Server
    port: int


def bench_dns(settings: Settings, folder: Path, stack: ExitStack) -> list[Result]:
    goals = [Goal(work.title, peer, most) for work in WORKS for peer, most in (("BIND", 0.9), ("Knot", 1.3))]
    own = Table("DNS over UDP", "µs CPU per query", tuple(work.title for work in WORKS), goals=goals)
    own.notes.append("Penstock with weights and a view; the others have weights in SRV only, and no views.")
    running = _start(own, NAME_SERVERS, settings, folder, stack)
    _measure(own, running, WORKS, settings, folder)
    if BIND.name not in running:
        return [own]
    forwarded = Table(
        "DNS, forwarded", "µs CPU per query", tuple(work.title for work in FORWARDED),
        goals=[Goal(work.title, "BIND", 1.0) for work in FORWARDED],
    )  # fmt: skip
    forwarded.notes.append(f"{FOREIGN_NAMES:,} names, asked before, that the BIND of the table above has.")
    forwarders = _start(forwarded, FORWARDERS, settings, folder, stack, running[BIND.name].port)
    _measure(forwarded, forwarders, FORWARDED, settings, folder)
    return [own, forwarded]


def _start(
    table: Table, peers: Sequence[Peer[DnsPlan]], settings: Settings, folder: Path, stack: ExitStack, upstream: int = 0
) -> dict[str, Running]:
    running: dict[str, Running] = {}
    asked, expected = (f"n0.{FOREIGN}", ["192.0.2.1"]) if upstream else (NAME, sorted(ADDRESSES))
    for peer in peers:
        if (program := peer.path()) is None:
            table.missing.append(f"{peer.name}: not installed ({peer.install})")
            continue
        plan = DnsPlan(folder, free_port(), free_port(), upstream)
        server = Server(peer.name, [program, *peer.prepare(plan)], core=settings.server_core, folder=folder)
        stack.callback(server.stop)
        try:
            server.wait_until(lambda port=plan.port: addresses(port, asked) == expected)
        except BenchError as exc:
            table.missing.append(f"{peer.name}: {exc}")
            continue
        table.peers.append(peer.name)
        table.versions[peer.name] = peer.version()
        running[peer.name] = Running(server, plan.port)
    return running


def _measure(
    table: Table, running: dict[str, Running], works: Iterable[Work], settings: Settings, folder: Path
) -> None:
    files = [(work, folder / f"queries-{number}") for number, work in enumerate(works)]
    for work, file in files:
        file.write_text("".join(f"{line}\n" for line in work.queries))
    for _, file in files:  # caches are filled, and what gets lost while they are is not counted
        for peer in running.values():
            with suppress(BenchError):
                dns_sample(peer.server.pid, peer.port, file, core=settings.load_core, seconds=WARM_UP)
    for number in range(settings.rounds):
        for work, file in files:
            for name, peer in running.items():
                with noted(table, name, work.title):
                    sample = dns_sample(
                        peer.server.pid, peer.port, file,
                        core=settings.load_core, seconds=settings.short, rcode=work.rcode,
                    )  # fmt: skip
                    table.add(work.title, name, sample)
        print(f"{table.title}: round {number + 1} of {settings.rounds} done", file=sys.stderr)


def addresses(port: int, name: str) -> list[str]:
    """What the name has, in ascending order."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", port))
        sock.send(dnslib.DNSRecord.question(name).pack())
        answer = dnslib.DNSRecord.parse(sock.recv(4096))
    return sorted(str(record.rdata) for record in answer.rr if record.rtype == dnslib.QTYPE.A)
