"""Penstock beside HAProxy, nginx and Envoy, and beside BIND, Knot and PowerDNS: CPU time per request, in one run.

Each server has one core to itself, load and origins have the other. Rounds are interleaved, so that a neighbour who
wakes up for a while does not decide who is faster, and the median of the rounds is shown.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import signal
import socket
import ssl
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dnslib
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from measure import BenchError, Sample, Server, dns_sample, find_program, free_port, http_sample
from peers import ADDRESSES, DNS_PEERS, HTTP_PEERS, NAME, DnsPlan, HttpPlan, Peer, prepare_origin

HERE = Path(__file__).parent

PENSTOCK = "Penstock"
LOAD_TOOLS = {"http": ("wrk", "wrk"), "dns": ("dnsperf", "dnsperf")}


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the results."""

    title: str
    path: str = "/"
    script: str | None = None
    tls: bool = False


HTTP_WORKS = (
    Work("small answer, same head"),
    Work("unique path, browser headers", script="unique_path.lua"),
    Work("unique path and one unique header", script="unique_header.lua"),
    Work("1 MiB answer", path="/big"),
    Work("TLS keep-alive, small answer", tls=True),
)
DNS_WORK = "A, three answers"


@dataclass(slots=True)
class Table:
    """Samples by row and peer, and what could not be measured."""

    title: str
    unit: str
    rows: tuple[str, ...]
    peers: list[str] = field(default_factory=list[str])
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict[tuple[str, str], list[Sample]])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    missing: list[str] = field(default_factory=list[str])

    def add(self, row: str, peer: str, sample: Sample) -> None:
        self.samples.setdefault((row, peer), []).append(sample)

    def cost(self, row: str, peer: str) -> float | None:
        samples = self.samples.get((row, peer))
        return statistics.median(sample.microseconds for sample in samples) if samples else None

    def cells(self) -> Iterator[list[str]]:
        """Row by row: its title, each peer's median with lowest and highest, and Penstock's ratio to the peer."""
        yield [self.unit, *self.peers]
        for row in self.rows:
            base = self.cost(row, PENSTOCK)
            cells = [row]
            for peer in self.peers:
                cost = self.cost(row, peer)
                if cost is None:
                    cells.append("-")
                    continue
                all_costs = [sample.microseconds for sample in self.samples[row, peer]]
                text = f"{cost:.1f} ({min(all_costs):.1f}-{max(all_costs):.1f})"
                cells.append(text if peer == PENSTOCK or base is None else f"{text} x{base / cost:.2f}")
            yield cells


@dataclass(frozen=True, slots=True)
class Settings:
    rounds: int
    seconds: float
    server_core: int
    load_core: int


def bench_http(settings: Settings, folder: Path, stack: ExitStack) -> Table:
    table = Table("HTTP/1.1 keep-alive, 64 connections", "µs CPU per request", tuple(w.title for w in HTTP_WORKS))
    origins = (free_port(), free_port())
    certificate, key, pem = write_certificate(folder)
    nginx = find_program("nginx")
    if nginx is None:
        raise BenchError("the origin of the HTTP bench is nginx: apt-get install nginx-light")
    origin = Server("origin", [nginx, *prepare_origin(folder, origins)], core=settings.load_core, folder=folder)
    stack.callback(origin.stop)
    origin.wait_until(lambda: all(http_answers(port, "/") for port in origins))

    running: list[tuple[str, Server, HttpPlan]] = []
    for peer in HTTP_PEERS:
        plan = HttpPlan(folder, free_port(), free_port(), free_port(), origins, certificate, key, pem)
        ready = lambda plan=plan: http_answers(plan.http, "/big") and http_answers(plan.https, "/", tls=True)  # noqa: E731
        if (server := start(table, peer, plan, ready, settings, folder, stack)) is not None:
            running.append((peer.name, server, plan))

    def measure(work: Work, server: Server, plan: HttpPlan, seconds: float) -> Sample:
        url = f"https://127.0.0.1:{plan.https}" if work.tls else f"http://127.0.0.1:{plan.http}"
        script = HERE / work.script if work.script else None
        return http_sample(server.pid, url + work.path, core=settings.load_core, seconds=seconds, script=script)

    for number in range(settings.rounds):
        for work in HTTP_WORKS:
            for name, server, plan in running:
                with noted(table, name, work.title):
                    if number == 0:
                        measure(work, server, plan, 1)  # warms caches, connections and branch predictors
                    table.add(work.title, name, measure(work, server, plan, settings.seconds))
        progress(table, number, settings.rounds)
    return table


def bench_dns(settings: Settings, folder: Path, stack: ExitStack) -> Table:
    table = Table("DNS over UDP", "µs CPU per query", (DNS_WORK,))
    queries = folder / "queries"
    queries.write_text(f"{NAME} A\n")
    running: list[tuple[str, Server, int]] = []
    for peer in DNS_PEERS:
        port = free_port()
        ready = lambda port=port: dns_answers(port)  # noqa: E731
        if (
            server := start(table, peer, DnsPlan(folder, port, free_port()), ready, settings, folder, stack)
        ) is not None:
            running.append((peer.name, server, port))
    for number in range(settings.rounds):
        for name, server, port in running:
            with noted(table, name, DNS_WORK):
                if number == 0:
                    dns_sample(server.pid, port, queries, core=settings.load_core, seconds=1)
                sample = dns_sample(server.pid, port, queries, core=settings.load_core, seconds=settings.seconds)
                table.add(DNS_WORK, name, sample)
        progress(table, number, settings.rounds)
    return table


def start(
    table: Table,
    peer: Peer[Any],
    plan: HttpPlan | DnsPlan,
    ready: Callable[[], bool],
    settings: Settings,
    folder: Path,
    stack: ExitStack,
) -> Server | None:
    """The running peer, or a line in `table.missing` that says why not."""
    program = peer.path()
    if program is None:
        table.missing.append(f"{peer.name}: not installed ({peer.install})")
        return None
    command = [program, *peer.prepare(plan)]
    server = Server(f"{peer.name}-{type(plan).__name__}", command, core=settings.server_core, folder=folder)
    stack.callback(server.stop)
    try:
        server.wait_until(ready)
    except BenchError as exc:
        table.missing.append(f"{peer.name}: {exc}")
        return None
    table.peers.append(peer.name)
    table.versions[peer.name] = peer.version()
    return server


@contextmanager
def noted(table: Table, peer: str, row: str) -> Iterator[None]:
    """A measurement that failed is a line below the table, and the others go on."""
    try:
        yield
    except BenchError as exc:
        table.samples.pop((row, peer), None)
        table.missing.append(f"{peer}, {row}: {exc}")


def progress(table: Table, number: int, rounds: int) -> None:
    print(f"{table.title}: round {number + 1} of {rounds} done", file=sys.stderr)


def http_answers(port: int, path: str, *, tls: bool = False) -> bool:
    """Whether GET `path` is answered 200 with the whole body. 503 may mean that health is not known yet."""
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException:
        return False
    finally:
        connection.close()
    return answer.status == 200 and len(body) == (2**20 if path == "/big" else 34)


def dns_answers(port: int) -> bool:
    """Whether the name has its three addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect(("127.0.0.1", port))
        sock.send(dnslib.DNSRecord.question(NAME).pack())
        answer = dnslib.DNSRecord.parse(sock.recv(4096))
    return sorted(str(record.rdata) for record in answer.rr) == sorted(ADDRESSES)


def write_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """An ECDSA P-256 certificate for localhost: certificate, key, and both in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths = folder / "bench.crt", folder / "bench.key", folder / "bench.pem"
    for path, content in zip(paths, (chain, private, chain + private), strict=True):
        path.write_bytes(content)
    return paths


def markdown(tables: Sequence[Table], settings: Settings, command: str) -> str:
    """The results page: figures, what they mean, and what made them. It names no machine and no folder."""
    lines = [
        "# Benchmarks",
        "",
        f"Made on {datetime.now(UTC):%Y-%m-%d} by",
        "",
        f"    {command}",
        "",
        f"on {machine()}. Interleaved rounds: {settings.rounds}, of {settings.seconds:g} s each. A figure is",
        "the median of the rounds (lowest-highest).",
        "",
        "The figure is the server's own CPU time, user and system, per request that was answered, with each server",
        "pinned to one core and load and origins on the other. What follows x is Penstock's figure over the peer's:",
        "below 1 Penstock is cheaper. Compare within a row; rows and runs differ with the machine's neighbours.",
        "Penstock runs with security group, network ACL, health checks and metrics on.",
    ]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        header, *rows = table.cells()
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += ["", f"Versions: {', '.join(f'{name} {version}' for name, version in table.versions.items())}."]
        lines += ["", *(f"- {line}" for line in table.missing)] if table.missing else []
    return "\n".join([*lines, ""])


def machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{os.cpu_count()} cores of {cpu}, Linux {kernel}, CPython {platform.python_version()}"


def show(table: Table) -> None:
    print(f"\n{table.title}")
    grid = list(table.cells())
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    for row in grid:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{', '.join(f'{name} {version}' for name, version in table.versions.items())}")
    for line in table.missing:
        print(f"not measured: {line}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description="CPU time per request, side by side with peers.")
    parser.add_argument("--only", choices=("http", "dns"), help="one half of the bench")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="per measurement (default %(default)s)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the results as a Markdown page")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("The bench needs Linux and two cores: one for the server, one for load and origins.", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended on the way out
    settings = Settings(options.rounds, options.seconds, server_core=cores[-1], load_core=cores[0])
    tables: list[Table] = []
    for kind, bench in (("http", bench_http), ("dns", bench_dns)):
        if options.only not in (None, kind):
            continue
        tool, package = LOAD_TOOLS[kind]
        if find_program(tool) is None:
            print(f"not measured: {kind} needs {tool} (apt-get install {package})")
            continue
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, ExitStack() as stack:
            try:
                table = bench(settings, Path(folder), stack)
            except BenchError as exc:
                print(f"not measured: {kind}: {exc}")
                continue
        tables.append(table)
        if table.peers:
            show(table)
        else:
            print("\n".join(f"not measured: {line}" for line in table.missing))
    if options.write and tables:
        command = f'make bench ARGS="{" ".join(sys.argv[1:])}"'
        options.write.write_text(markdown([table for table in tables if table.peers], settings, command))
    return 0 if tables else 1


if __name__ == "__main__":
    sys.exit(main())
