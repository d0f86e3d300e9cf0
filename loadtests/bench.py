"""Penstock beside HAProxy, nginx, Envoy and Caddy, beside BIND, Knot, PowerDNS and NSD, in one run: `make bench`.

What is compared is CPU time per request. Each server has one core to itself, load and origins have the other. Rounds
are interleaved, so that a neighbour who wakes up for a while does not decide who is faster, and the median of the
rounds is shown.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dns_bench import bench_dns
from dns_size_bench import bench_dns_size
from http_bench import bench_connections, bench_http2, bench_keep_alive, bench_latency, bench_logged
from idle_bench import bench_memory, bench_websockets
from measure import Settings
from results import Result, markdown, show
from servers import BenchError, find_program
from size_bench import bench_size, bench_workers


@dataclass(frozen=True, slots=True)
class Group:
    """What --only names. `tools` are the load generators it needs, and the Debian packages they are in."""

    name: str
    bench: Callable[[Settings, Path, ExitStack], list[Result]]
    tools: tuple[tuple[str, str], ...] = ()


_WRK, _H2LOAD = ("wrk", "wrk"), ("h2load", "nghttp2-client")
_DNSPERF = ("dnsperf", "dnsperf")
GROUPS = (
    Group("http", bench_keep_alive, (_WRK,)),
    Group("log", bench_logged, (_WRK,)),
    Group("connections", bench_connections, (_WRK, _H2LOAD)),
    Group("http2", bench_http2, (_H2LOAD,)),
    Group("latency", bench_latency, (_WRK, _H2LOAD)),
    Group("size", bench_size, (_WRK, _H2LOAD)),
    Group("memory", bench_memory),
    Group("websockets", bench_websockets),
    Group("workers", bench_workers, (_WRK,)),
    Group("dns", bench_dns, (_DNSPERF,)),
    Group("dns-size", bench_dns_size, (_DNSPERF, _WRK)),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description="CPU time per request, side by side with peers.")
    names = [group.name for group in GROUPS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="GROUP", help=f"of {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="per measurement in the first table, "
                        "a third of it in others (default %(default)s)")  # fmt: skip
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the results as a Markdown page")
    return parser.parse_args()


def run_group(group: Group, settings: Settings) -> list[Result]:
    """Its results; what it started has ended and what it wrote is gone, however it went."""
    for tool, package in group.tools:
        if find_program(tool) is None:
            print(f"not measured: {group.name} needs {tool} (apt-get install {package})")
            return []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, ExitStack() as stack:
        try:
            return group.bench(settings, Path(folder), stack)
        except BenchError as exc:
            print(f"not measured: {group.name}: {exc}")
            return []


def end(number: int, _frame: object) -> None:
    """Unwinds, which ends the servers. A second signal must not interrupt that: ^C is often pressed twice."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    options = arguments()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("The bench needs Linux and two cores: one for the server, one for load and origins.", file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    settings = Settings(options.rounds, options.seconds, server_core=str(cores[-1]), load_core=str(cores[0]))
    results: list[Result] = []
    for group in GROUPS:
        if options.only is None or group.name in options.only:
            for result in run_group(group, settings):
                show(result)
                results.append(result)
    if options.write and results:
        options.write.write_text(markdown(results, settings, f'make bench ARGS="{" ".join(sys.argv[1:])}"'))
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
