"""What holds for every test: nothing it opened stays open, and where CI says so, nothing is skipped."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import uvloop

NO_SKIPS = os.environ.get("PENSTOCK_NO_SKIPS", "") not in ("", "0")

FAILED = pytest.StashKey[bool]()

DESCRIPTORS = Path("/proc/self/fd")


def pytest_collection_finish() -> None:
    uvloop.new_event_loop().close()  # libuv opens its signal pipe once for the life of the process
    gc.collect()
    gc.freeze()  # the leak fixture collects after some tests, and then need not look at what imports made


@pytest.fixture(scope="module", autouse=True)
def what_a_module_leaves_is_not_looked_at_again() -> Iterator[None]:
    """Memos, reports and caches of thousands of tests: to look through them after each further test takes minutes."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_descriptor_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test ends with the file descriptors it began with; fixtures of wider scope have opened theirs before."""
    before = _open_descriptors()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback keeps alive what it was holding
    left = _open_descriptors() - before
    if left:
        gc.collect()  # a cycle is not a leak
        left = _open_descriptors() - before
    assert not left, f"file descriptors left open: {sorted(left)}"


def _open_descriptors() -> set[tuple[str, str]]:
    """Number and meaning of each; empty where there is no /proc (macOS), which makes the check say nothing."""
    found = set()
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            found.add((entry.name, os.readlink(entry)))
        except FileNotFoundError:  # the one that listed the folder
            continue
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid_skip(report)
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid_skip(report)
    return report


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"PENSTOCK_NO_SKIPS is set, and this was skipped: {reason}"
