"""The bench's own arithmetic: what a load generator printed, what a process cost, and how a table tells it."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from penstock.control.config import load

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
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(LOADTESTS))
    return importlib.import_module("results")


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
    assert bool(measure._dnsperf_trouble("NOERROR").search(text)) == trouble


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


H2LOAD = """\
requests: 31871 total, 31872 started, 31871 done, {succeeded} succeeded, {failed} failed, {errored} errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, {bad} 5xx
"""


@pytest.mark.parametrize(
    ("failed", "errored", "bad", "trouble"), [(0, 0, 0, False), (10, 0, 0, True), (0, 1, 0, True), (0, 0, 20, True)]
)
def test_h2load_is_read_and_its_errors_are_not_passed_over(
    measure: ModuleType, failed: int, errored: int, bad: int, trouble: bool
) -> None:
    good = 31871 - failed - errored - bad
    text = H2LOAD.format(succeeded=good, good=good, failed=failed, errored=errored, bad=bad)
    assert measure._H2LOAD_DONE.search(text)[1] == str(good)
    assert bool(measure._H2LOAD_TROUBLE.search(text)) == trouble


def test_latencies_are_those_of_answers_and_failures_are_counted(measure: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "latencies"
    answers = [f"{1795000000000000 + n}\t200\t{n}\n" for n in range(1, 101)]
    log.write_text("".join([*answers, "1795000000000000\t-1\t999999\n", "1795000000000000\t503\t1\n"]))
    assert measure.read_latencies(log) == measure.Latencies(count=102, failed=2, median=50, p99=99, longest=100)


def test_latencies_of_nobody_are_an_error(measure: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "latencies").write_text("1795000000000000\t-1\t999999\n")
    with pytest.raises(measure.BenchError, match="no answer"):
        measure.read_latencies(tmp_path / "latencies")


def test_resident_memory_grows_with_what_a_child_holds(measure: ModuleType) -> None:
    hold = "import sys; held = b'x' * 2**26; print(flush=True); sys.stdin.read()"
    before = measure.resident_bytes(os.getpid())
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert measure.resident_bytes(os.getpid()) >= before + 2**26 - 2**24
        child.communicate(b"")


def test_a_table_shows_medians_and_ratios_to_penstock(results: ModuleType) -> None:
    table = results.Table("DNS", "µs", ("A",), peers=["Penstock", "BIND", "Knot"])
    for microseconds in (3.0, 1.0, 2.0):
        table.add("A", "Penstock", results.Sample(microseconds, 1000))
    table.add("A", "BIND", results.Sample(4.0, 500))
    assert list(table.cells()) == [
        ["µs", "Penstock", "BIND", "Knot"],
        ["A", "2.0 (1.0-3.0)", "4.0 (4.0-4.0) x0.50", "-"],
    ]


def test_a_table_of_penstock_alone_shows_ratios_to_its_small_self(results: ModuleType) -> None:
    table = results.Table("Size", "µs", ("A",), base="small", over_base=True, peers=["small", "large"],
                          goals=[results.Goal("A", "large", 1.1)])  # fmt: skip
    table.add("A", "small", results.Sample(10.0, 1000))
    table.add("A", "large", results.Sample(12.0, 1000))
    assert list(table.cells())[1] == ["A", "10.0 (10.0-10.0)", "12.0 (12.0-12.0) x1.20"]
    assert list(table.remarks()) == ["missed: A, large is 1.20 x small; the goal is 1.1"]


@pytest.mark.parametrize(("most", "remarks"), [(2.0, []), (1.9, ["missed: A, 2.00 x BIND; the goal is 1.9"])])
def test_a_goal_is_spoken_of_when_it_is_missed(results: ModuleType, most: float, remarks: list[str]) -> None:
    goals = [results.Goal("A", "BIND", most), results.Goal("A", "Knot", 0.1)]
    table = results.Table("DNS", "µs", ("A",), goals=goals, peers=["Penstock", "BIND"])
    table.add("A", "Penstock", results.Sample(4.0, 1000))
    table.add("A", "BIND", results.Sample(2.0, 1000))
    assert list(table.remarks()) == remarks


def test_what_failed_is_a_line_and_not_half_a_figure(results: ModuleType) -> None:
    table = results.Table("DNS", "µs", ("A",), peers=["Penstock"])
    table.add("A", "Penstock", results.Sample(4.0, 1000))
    with results.noted(table, "Penstock", "A"):
        raise results.BenchError("answers were wrong")
    assert list(table.cells())[1] == ["A", "-"]
    assert list(table.remarks()) == ["not measured: Penstock, A: answers were wrong"]


def test_the_results_page_says_how_it_was_made_and_what_is_missing(measure: ModuleType, results: ModuleType) -> None:
    table = results.Table("DNS", "µs", ("A",), peers=["Penstock"], versions={"Penstock": "0.1.0"})
    table.add("A", "Penstock", results.Sample(2.0, 1000))
    table.missing.append("Knot: not installed (apt-get install knot)")
    facts = results.Facts("Memory", ("", "KiB"), rows=[["Penstock", "2.5"]])
    page = results.markdown([table, facts], measure.Settings(3, 5, "1", "0"), 'make bench ARGS="--only dns"')
    assert '    make bench ARGS="--only dns"' in page
    assert "| A | 2.0 (2.0-2.0) |" in page
    assert "- not measured: Knot: not installed (apt-get install knot)" in page
    assert "|  | KiB |\n|---|---|\n| Penstock | 2.5 |" in page
    assert os.uname().nodename not in page or len(os.uname().nodename) < 5


def test_added_latency_is_what_is_more_than_without_a_proxy(measure: ModuleType, bench: ModuleType) -> None:
    http_bench = importlib.import_module("http_bench")
    rows = http_bench.latency_rows(
        {
            "no proxy": [measure.Latencies(9, 0, 100, 900, 950), measure.Latencies(9, 0, 110, 800, 950)],
            "Penstock": [measure.Latencies(9, 0, 150, 1000, 1100)],
        },
        "no proxy",
    )
    assert rows == [["no proxy", "105", "850", "", ""], ["Penstock", "150", "1000", "+45", "+150"]]


@pytest.mark.parametrize(
    ("connections", "said"),
    [([60, 60], "60 and 60; the most over the mean is 1.00."), ([90, 30], "is 1.50, missed: the goal is 1.2.")],
)
def test_spread_is_the_busiest_over_the_mean(bench: ModuleType, connections: list[int], said: str) -> None:
    assert importlib.import_module("size_bench").spread(connections).endswith(said)


@pytest.mark.parametrize("large", [False, True])
def test_every_configuration_that_the_bench_writes_is_right(bench: ModuleType, tmp_path: Path, large: bool) -> None:
    peers, configs = importlib.import_module("peers"), importlib.import_module("penstock_configs")
    certificate, key, pem = importlib.import_module("origins").write_certificate(tmp_path)
    plan = peers.HttpPlan(tmp_path, 8001, 8002, 8003, (9001, 9002), certificate, key, pem, log=large)
    size = configs.Size(rules=300, sources=300, targets=300, workers=2) if large else configs.Size()
    (tmp_path / "penstock.yaml").write_text(configs.penstock_yaml(plan, size, 7 if large else None))
    settings = load(tmp_path / "penstock.yaml", now=time.time(), materialize=False).settings
    http = next(listener for listener in settings.proxy.listeners if listener.port == 8001)
    assert len(http.rules) == (301 if large else 0)
    assert [len(group.targets) for group in settings.proxy.target_groups] == [302 if large else 2]


def test_a_holder_tells_who_was_closed(bench: ModuleType) -> None:
    holder = importlib.import_module("holder")
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as accepted:

        def serve() -> None:
            for number in range(3):
                connection = accepted.enter_context(server.accept()[0])
                assert connection.recv(4096) == holder.WEBSOCKET
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                if number == 0:
                    connection.close()

        serving = threading.Thread(target=serve)
        serving.start()
        with holder.Holder(server.getsockname()[1]) as held:
            held.hold(3, holder.WEBSOCKET)
            serving.join()
            assert len(held) == 3
            assert held.closed() == 1
            accepted.close()
            assert held.closed() == 3


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"HTTP/1.1 503 Busy\r\n\r\n", "answered http/1.1 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx", "middle"),
    ],
)
def test_a_holder_holds_nobody_who_was_not_answered(bench: ModuleType, answer: bytes, what: str) -> None:
    holder = importlib.import_module("holder")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with holder.Holder(server.getsockname()[1]) as held, pytest.raises(holder.BenchError, match=what):
            held.hold(1, holder.PLAIN)
        serving.join()
