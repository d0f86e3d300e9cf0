"""Tables of what was measured, and the page that tells them: medians, ratios, and where a goal was missed."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from measure import Sample, Settings
from servers import BenchError

PENSTOCK = "Penstock"


@dataclass(frozen=True, slots=True)
class Goal:
    """What the ratio of `peer` in `row` is to be at most."""

    row: str
    peer: str
    most: float


@dataclass(slots=True)
class Table:
    """Samples by row and peer, and what could not be measured."""

    title: str
    unit: str
    rows: tuple[str, ...]
    base: str = PENSTOCK
    # Ratios are the base's figure over the peer's; True turns them round, for tables that vary Penstock itself.
    over_base: bool = False
    goals: Sequence[Goal] = ()
    notes: list[str] = field(default_factory=list[str])
    peers: list[str] = field(default_factory=list[str])
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict[tuple[str, str], list[Sample]])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    missing: list[str] = field(default_factory=list[str])

    def add(self, row: str, peer: str, sample: Sample) -> None:
        self.samples.setdefault((row, peer), []).append(sample)

    def cost(self, row: str, peer: str) -> float | None:
        samples = self.samples.get((row, peer))
        return statistics.median(sample.microseconds for sample in samples) if samples else None

    def ratio(self, row: str, peer: str) -> float | None:
        base, cost = self.cost(row, self.base), self.cost(row, peer)
        if not base or not cost:
            return None
        return cost / base if self.over_base else base / cost

    def cells(self) -> Iterator[list[str]]:
        """Row by row: its title, each peer's median with lowest and highest, and the ratio to the base."""
        yield [self.unit, *self.peers]
        for row in self.rows:
            cells = [row]
            for peer in self.peers:
                cost, ratio = self.cost(row, peer), self.ratio(row, peer)
                if cost is None:
                    cells.append("-")
                    continue
                all_costs = [sample.microseconds for sample in self.samples[row, peer]]
                text = f"{cost:.1f} ({min(all_costs):.1f}-{max(all_costs):.1f})"
                cells.append(text if peer == self.base or ratio is None else f"{text} x{ratio:.2f}")
            yield cells

    def remarks(self) -> Iterator[str]:
        yield from self.notes
        for goal in self.goals:
            ratio = self.ratio(goal.row, goal.peer)
            if ratio is not None and ratio > goal.most:
                times = f"{goal.peer} is {ratio:.2f} x {self.base}" if self.over_base else f"{ratio:.2f} x {goal.peer}"
                yield f"missed: {goal.row}, {times}; the goal is {goal.most:g}"
        yield from (f"not measured: {line}" for line in self.missing)


@dataclass(slots=True)
class Facts:
    """A table whose cells are finished text, for what is not CPU per request."""

    title: str
    header: tuple[str, ...]
    rows: list[list[str]] = field(default_factory=list[list[str]])
    notes: list[str] = field(default_factory=list[str])
    versions: dict[str, str] = field(default_factory=dict[str, str])
    missing: list[str] = field(default_factory=list[str])

    def cells(self) -> Iterator[list[str]]:
        yield list(self.header)
        yield from self.rows

    def remarks(self) -> Iterator[str]:
        yield from self.notes
        yield from (f"not measured: {line}" for line in self.missing)


Result = Table | Facts


@contextmanager
def noted(table: Table, peer: str, row: str) -> Iterator[None]:
    """A measurement that failed is a line below the table, and the others go on."""
    try:
        yield
    except BenchError as exc:
        table.samples.pop((row, peer), None)
        table.missing.append(f"{peer}, {row}: {exc}")


def markdown(results: Iterable[Result], settings: Settings, command: str) -> str:
    """The results page: figures, what they mean, and what made them. It names no machine and no folder."""
    lines = [
        "# Benchmarks",
        "",
        f"Made on {datetime.now(UTC):%Y-%m-%d} by",
        "",
        f"    {command}",
        "",
        f"on {machine()}. Interleaved rounds: {settings.rounds}, of {settings.seconds:g} s in the first table and",
        f"{settings.short:g} s in the others. A figure is the median of the rounds (lowest-highest).",
        "",
        "The figure is the server's own CPU time, user and system, per request that was answered, with each server",
        "pinned to one core and load and origins on the other. What follows x is Penstock's figure over the peer's:",
        "below 1 Penstock is cheaper. Compare within a row; rows and runs differ with the machine's neighbours.",
        "",
        "All proxies do the same work: a request id, X-Forwarded-For, -Proto and -Port, an address rule that admits",
        "127.0.0.0/8 alone (in Penstock a security group and a network ACL), timeouts, and health checks every 5 s",
        "(nginx cannot check: it counts failures). Idle connections to origins are lent to all clients.",
        "",
        "[Where the time goes](profiles.md) where a goal was missed.",
    ]
    for result in results:
        lines += ["", f"## {result.title}", ""]
        header, *rows = result.cells()
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        if result.versions:
            lines += ["", f"Versions: {', '.join(f'{name} {version}' for name, version in result.versions.items())}."]
        if remarks := [f"- {line}" for line in result.remarks()]:
            lines += ["", *remarks]
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


def show(result: Result) -> None:
    print(f"\n{result.title}")
    grid = list(result.cells())
    widths = [max(len(row[column]) for row in grid) for column in range(len(grid[0]))]
    for row in grid:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if result.versions:
        print(", ".join(f"{name} {version}" for name, version in result.versions.items()))
    for line in result.remarks():
        print(f"- {line}", flush=True)
