"""How the bench reads a server: CPU time of a process and its children over the work that a load generator got done.

CPU time holds where wall-clock rates swing with the machine's neighbours, and it adds up: a server that is twice as
dear per request needs twice the cores. Read ratios within a row, measured in one run, never across rows or runs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# Debian keeps servers in sbin, which is not on a plain user's PATH; Envoy comes as a Python package, beside Python.
SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", os.path.dirname(sys.executable)]
)


class BenchError(Exception):
    """Something that the reader of the results must be told in a sentence."""


def find_program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid` and of all processes below it, threads included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        fields = stat.rpartition(")")[
            2
        ].split()  # the command before it may hold spaces; field 3 of proc(5) comes first
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = int(fields[11]) + int(fields[12])
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(ticks.get(member, 0) for member in family) / TICKS_PER_SECOND


class Server:
    """One server process, pinned to one core, its output in a file, ended by pid."""

    def __init__(self, name: str, command: Sequence[str], *, core: int, folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.out"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid  # taskset has become the server: it calls exec

    def wait_until(self, answers: Callable[[], bool], *, seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchError(f"ended with exit code {self._process.returncode}: {self._last_words()}")
            with suppress(OSError):  # not listening yet
                if answers():
                    return
            time.sleep(0.05)
        raise BenchError(f"did not answer within {seconds:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-3:]) if lines else "it printed nothing"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def free_port() -> int:
    """A port that nobody holds on loopback, neither for TCP nor for UDP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with suppress(OSError):  # held for UDP only: draw again
                udp.bind(("127.0.0.1", port))
                return port


@dataclass(frozen=True, slots=True)
class Sample:
    microseconds: float  # CPU per request or query
    per_second: float


def _measured(pid: int, command: Sequence[str], core: int, done: re.Pattern[str], trouble: re.Pattern[str]) -> Sample:
    before, began = cpu_seconds(pid), time.monotonic()
    result = subprocess.run(
        ["taskset", "--cpu-list", str(core), *command], capture_output=True, text=True, check=False, timeout=600
    )
    took, after = time.monotonic() - began, cpu_seconds(pid)
    found = done.search(result.stdout)
    if result.returncode != 0 or found is None or int(found[1]) == 0:
        raise BenchError(f"{command[0]} got nothing done: {(result.stderr or result.stdout).strip()[-200:]}")
    if wrong := trouble.search(result.stdout):
        raise BenchError(f"answers were wrong or missing: {' '.join(wrong[0].split())}")
    count = int(found[1])
    return Sample((after - before) / count * 1e6, count / took)


_WRK_DONE = re.compile(r"(\d+) requests in ")
_WRK_TROUBLE = re.compile(r"(?:Socket errors|Non-2xx).*")
_DNSPERF_DONE = re.compile(r"Queries completed:\s+(\d+)")
# A timeout or two of a million is the kernel's; an answer other than NOERROR is not what was asked for.
_DNSPERF_TROUBLE = re.compile(
    r"Queries lost: .*\((?:[1-9]|0\.[1-9]).*|Response codes: ++(?!NOERROR \d+ \(100\.00%\)).*"
)


def http_sample(
    pid: int, url: str, *, core: int, seconds: float, script: Path | None = None, connections: int = 64
) -> Sample:
    """CPU per request under wrk; `seconds` is rounded up to whole ones, which is all wrk knows."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    if script:
        command += ["-s", str(script)]
    return _measured(pid, [*command, url], core, _WRK_DONE, _WRK_TROUBLE)


def dns_sample(pid: int, port: int, queries: Path, *, core: int, seconds: float) -> Sample:
    """CPU per query under dnsperf, up to 100 outstanding."""
    command = ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(queries), "-c", "8", "-T", "1", "-q", "100"]
    return _measured(pid, [*command, "-l", f"{seconds:g}"], core, _DNSPERF_DONE, _DNSPERF_TROUBLE)
