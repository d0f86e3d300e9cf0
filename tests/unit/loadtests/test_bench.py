"""The bench's own arithmetic: what a load generator printed, what a process cost, and how a table tells it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

LOADTESTS = Path(__file__).parents[3] / "loadtests"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads /proc: needs Linux")

WRK = "  64 threads and connections\n  91234 requests in 2.00s, 12.00MB read\n{trouble}Requests/sec: 45617.0\n"
DNSPERF = """\
  Queries sent:         1000
  Queries completed:    {completed} (100.00%)
  Queries lost:         {lost}

  Response codes:       {codes}
"""


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(LOADTESTS))
    return importlib.import_module("measure")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(LOADTESTS))
    return importlib.import_module("bench")


@pytest.mark.parametrize("trouble", ["", "  Socket errors: connect 0, read 3\n", "  Non-2xx or 3xx responses: 7\n"])
def test_wrk_is_read_and_its_errors_are_not_passed_over(measure: ModuleType, trouble: str) -> None:
    text = WRK.format(trouble=trouble)
    assert measure._WRK_DONE.search(text)[1] == "91234"
    assert bool(measure._WRK_TROUBLE.search(text)) == bool(trouble)


@pytest.mark.parametrize(
    ("lost", "codes", "trouble"),
    [
        ("0 (0.00%)", "NOERROR 1000 (100.00%)", False),
        ("1 (0.01%)", "NOERROR 999 (100.00%)", False),
        ("20 (2.00%)", "NOERROR 980 (100.00%)", True),
        ("2 (0.20%)", "NOERROR 998 (100.00%)", True),
        ("0 (0.00%)", "NOERROR 900 (90.00%), SERVFAIL 100 (10.00%)", True),
        ("0 (0.00%)", "REFUSED 1000 (100.00%)", True),
    ],
)
def test_dnsperf_is_read_and_wrong_answers_are_not_counted(
    measure: ModuleType, lost: str, codes: str, trouble: bool
) -> None:
    text = DNSPERF.format(completed=1000, lost=lost, codes=codes)
    assert measure._DNSPERF_DONE.search(text)[1] == "1000"
    assert bool(measure._DNSPERF_TROUBLE.search(text)) == trouble


def test_cpu_time_counts_a_process_and_its_children(measure: ModuleType) -> None:
    # A shell that is not replaced by what it runs, and a child that burns until it is told to stop.
    with subprocess.Popen(["sh", "-c", "while :; do :; done & read _; kill $!; wait"], stdin=subprocess.PIPE) as parent:
        before = measure.cpu_seconds(parent.pid)
        deadline = time.monotonic() + 20
        while measure.cpu_seconds(parent.pid) < before + 0.05:
            assert time.monotonic() < deadline, "the child's time was not counted"
            time.sleep(0.01)
        parent.communicate(b"\n")


def test_cpu_time_is_what_the_kernel_says_of_this_process(measure: ModuleType) -> None:
    said = os.times()
    assert measure.cpu_seconds(os.getpid()) >= said.user + said.system - 0.05


def test_a_table_shows_medians_and_ratios_to_penstock(bench: ModuleType) -> None:
    table = bench.Table("DNS", "µs", ("A",), peers=["Penstock", "BIND", "Knot"])
    for microseconds in (3.0, 1.0, 2.0):
        table.add("A", "Penstock", bench.Sample(microseconds, 1000))
    table.add("A", "BIND", bench.Sample(4.0, 500))
    assert list(table.cells()) == [
        ["µs", "Penstock", "BIND", "Knot"],
        ["A", "2.0 (1.0-3.0)", "4.0 (4.0-4.0) x0.50", "-"],
    ]


def test_the_results_page_says_how_it_was_made_and_what_is_missing(bench: ModuleType) -> None:
    table = bench.Table("DNS", "µs", ("A",), peers=["Penstock"], versions={"Penstock": "0.1.0"})
    table.add("A", "Penstock", bench.Sample(2.0, 1000))
    table.missing.append("Knot: not installed (apt-get install knot)")
    page = bench.markdown([table], bench.Settings(3, 5, 1, 0), 'make bench ARGS="--only dns"')
    assert '    make bench ARGS="--only dns"' in page
    assert "| A | 2.0 (2.0-2.0) |" in page
    assert "- Knot: not installed (apt-get install knot)" in page
    assert os.uname().nodename not in page or len(os.uname().nodename) < 5
