"""How the bench reads a server: CPU time of a process and its children over the work that a load generator got done.

CPU time holds where wall-clock rates swing with the machine's neighbours, and it adds up: a server that is twice as
dear per request needs twice the cores. Read ratios within a row, measured in one run, never across rows or runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from servers import BenchError

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Settings:
    rounds: int
    seconds: float  # of a measurement in the first table
    server_core: str
    load_core: str

    @property
    def short(self) -> float:
        """Seconds of a measurement where there are many of them."""
        return max(1.0, self.seconds / 3)


def _processes() -> dict[int, list[str]]:
    """Fields 3 and on of every process's stat, as in proc(5)."""
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        found[int(entry.name)] = stat.rpartition(")")[2].split()  # the command before it may hold spaces
    return found


def _family(pid: int, processes: dict[int, list[str]] | None = None) -> set[int]:
    """`pid` and all processes below it."""
    parents = {member: int(fields[1]) for member, fields in (processes or _processes()).items()}
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return family


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid` and of all processes below it, threads included."""
    processes = _processes()
    members = [processes[member] for member in _family(pid, processes) if member in processes]
    return sum(int(fields[11]) + int(fields[12]) for fields in members) / TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """What `pid` and all processes below it have in memory. The kernel's own share of a connection is not in it."""
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in _family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Sample:
    microseconds: float  # CPU per request or query
    per_second: float


def run_load(command: Sequence[str], core: str) -> str:
    """What a load generator printed; it is pinned to `core`."""
    result = subprocess.run(
        ["taskset", "--cpu-list", core, *command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    if result.returncode != 0:
        raise BenchError(f"{command[0]} failed: {(result.stderr or result.stdout).strip()[-200:]}")
    return result.stdout


def count_done(output: str, done: re.Pattern[str], trouble: re.Pattern[str]) -> int:
    found = done.search(output)
    if found is None or int(found[1]) == 0:
        raise BenchError(f"nothing got done: {output.strip()[-200:]}")
    if wrong := trouble.search(output):
        raise BenchError(f"answers were wrong or missing: {' '.join(wrong[0].split())}")
    return int(found[1])


def _measured(pid: int, command: Sequence[str], core: str, done: re.Pattern[str], trouble: re.Pattern[str]) -> Sample:
    before, began = cpu_seconds(pid), time.monotonic()
    output = run_load(command, core)
    took, after = time.monotonic() - began, cpu_seconds(pid)
    count = count_done(output, done, trouble)
    return Sample((after - before) / count * 1e6, count / took)


_WRK_DONE = re.compile(r"(\d+) requests in ")
_WRK_TROUBLE = re.compile(r"(?:Socket errors|Non-2xx).*")
_H2LOAD_DONE = re.compile(r"(\d+) succeeded")
# Requests that were under way when the time was over count as neither. Only what failed or was refused is trouble.
_H2LOAD_TROUBLE = re.compile(
    r"requests: .*? (?:[1-9]\d* failed|[1-9]\d* errored|[1-9]\d* timeout).*|.*[1-9]\d* [345]xx.*"
)
_DNSPERF_DONE = re.compile(r"Queries completed:\s+(\d+)")


def _dnsperf_trouble(rcode: str) -> re.Pattern[str]:
    """A timeout or two of a million is the kernel's; an answer with another code is not what was asked for."""
    return re.compile(rf"Queries lost: .*\((?:[1-9]|0\.[1-9]).*|Response codes: ++(?!{rcode} \d+ \(100\.00%\)).*")


# New TLS connections per second. Paced, because wrk resumes sessions when it connects again, and h2load makes a client
# of its own for every connection and can create them at a rate only; low enough that everyone keeps up.
TLS_CONNECTIONS_PER_SECOND = 500


def http_sample(
    pid: int, url: str, *, core: str, seconds: float, script: Path | None = None, close: bool = False
) -> Sample:
    """CPU per request under wrk with 64 connections; `close` makes a new one for each request.

    `seconds` is rounded up to whole ones, which is all wrk knows.
    """
    command = ["wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s"]
    if script:
        command += ["-s", str(script)]
    if close:
        command += ["-H", "Connection: close"]
    return _measured(pid, [*command, url], core, _WRK_DONE, _WRK_TROUBLE)


def http2_sample(pid: int, url: str, *, core: str, seconds: float) -> Sample:
    """CPU per request under h2load: 8 connections with 10 streams each."""
    command = ["h2load", "-c8", "-m10", "--npn-list=h2", f"--duration={max(1, round(seconds))}", url]
    return _measured(pid, command, core, _H2LOAD_DONE, _H2LOAD_TROUBLE)


def tls_connections_sample(pid: int, url: str, *, core: str, seconds: float) -> Sample:
    """CPU per TLS connection with one request each. None is resumed."""
    count = max(1, round(seconds * TLS_CONNECTIONS_PER_SECOND))
    pace = [f"--rate={TLS_CONNECTIONS_PER_SECOND // 100}", "--rate-period=10ms"]
    command = ["h2load", "--h1", f"-c{count}", f"-n{count}", *pace, url]
    return _measured(pid, command, core, _H2LOAD_DONE, _H2LOAD_TROUBLE)


def paced_command(url: str, per_second: float, seconds: float, log: Path, *, connections: int = 16) -> list[str]:
    """h2load with `per_second` requests over HTTP/1.1 whether they are answered or not, and a log of their latencies.

    Each of its clients has a timer of its own, and all begin together: few of them, so that bursts are small.
    """
    pace = [f"-c{connections}", "-m1", f"--rps={max(1, round(per_second / connections))}"]
    return ["h2load", "--h1", *pace, f"--duration={max(1, round(seconds))}", f"--log-file={log}", url]


@dataclass(frozen=True, slots=True)
class Latencies:
    """Microseconds of the requests in one h2load log."""

    count: int
    failed: int
    median: int
    p99: int
    longest: int


def read_latencies(log: Path) -> Latencies:
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    took = sorted(int(row[2]) for row in rows if row[1].startswith("2"))
    if not took:
        raise BenchError("h2load got no answer")
    return Latencies(len(rows), len(rows) - len(took), *(took[int((len(took) - 1) * part)] for part in (0.5, 0.99, 1)))


def dns_sample(pid: int, port: int, queries: Path, *, core: str, seconds: float, rcode: str = "NOERROR") -> Sample:
    """CPU per query under dnsperf, up to 100 outstanding."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-c", "8", "-T", "1", "-q", "100"]
    return _measured(pid, [*command, "-l", f"{seconds:g}"], core, _DNSPERF_DONE, _dnsperf_trouble(rcode))


def dns_several_times(port: int, queries: Path, times: int, *, core: str) -> None:
    """Asks each of the queries so often."""
    run_load(["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-n", str(times)], core)


_DNSPERF_ANSWER = re.compile(r"^> NOERROR .* (\d+\.\d+)$", re.MULTILINE)


def dns_latencies(port: int, queries: Path, per_second: int, *, core: str, seconds: float) -> list[float]:
    """Seconds until each of so many queries a second was answered, in ascending order."""
    command = ["dnsperf", "-v", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-c", "8", "-T", "1"]
    output = run_load([*command, "-Q", str(per_second), "-l", f"{seconds:g}"], core)
    count_done(output, _DNSPERF_DONE, _dnsperf_trouble("NOERROR"))
    return sorted(map(float, _DNSPERF_ANSWER.findall(output)))
