"""Several workers as a user meets them: load spreads, a killed one is missed by nobody, every change reaches all."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import Exchange, Origin, PenstockProcess, free_port, need_tool, response, serving
from support.configuration import Ports, text
from support.dig import dig

# Each test starts three interpreters or more and loads them, beside whatever else the machine does.
pytestmark = pytest.mark.timeout(150)

READY_SECONDS = 45.0  # three interpreters begin, on a machine that may be busy


def fetch(port: int, path: str = "/") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read()


def until(condition: Callable[[], object], penstock: PenstockProcess, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, penstock.output()
        time.sleep(0.02)


class Site:
    """One configuration on free ports, run by two workers."""

    def __init__(self, folder: Path, extra: str = "", drain: str = "5s") -> None:
        self.ports = Ports()
        self.folder = folder
        self.extra = extra
        self.drain = drain
        self.file = folder / "penstock.yaml"

    def write(self, *targets: int, changed: Callable[[str], str] = lambda source: source) -> None:
        source = text(self.ports, *targets, extra=f"workers: 2\n{self.extra}", drain=self.drain)
        self.file.write_text(changed(source))

    def running(self) -> PenstockProcess:
        admin = f"127.0.0.1:{self.ports.admin}"
        return PenstockProcess(
            self.file, admin=admin, arguments=["run", "--no-watch"], ready_seconds=READY_SECONDS, stop_seconds=30.0
        )

    def reload(self, penstock: PenstockProcess, outcome: str) -> dict[str, Any]:
        before = penstock.status()["configuration"]["reloads"][outcome]
        penstock.signal(signal.SIGHUP)
        until(lambda: penstock.status()["configuration"]["reloads"][outcome] > before, penstock)
        return penstock.status()["configuration"]["last_reload"]


def processes(penstock: PenstockProcess) -> list[int]:
    return [worker["process_id"] for worker in penstock.status()["workers"]]


def is_there(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def metrics(penstock: PenstockProcess) -> dict[str, float]:
    """Sums over all labels."""
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(penstock.get("/metrics")[1].decode()):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return dict(sums)


def test_connections_spread_over_the_workers_and_the_counters_are_those_of_all(tmp_path: Path) -> None:
    wrk = need_tool("wrk", package="wrk")
    site, origin = Site(tmp_path, "access_log: {file: access.log}"), Origin(response(b"hello"))
    with serving(origin):
        site.write(origin.port, changed=lambda source: source.replace("dns: {listen", "dns: {top_names: 10, listen"))
        with site.running() as penstock:
            command = [wrk, "-t1", "-c64", "-d2s", "-H", "Connection: close", f"http://127.0.0.1:{site.ports.http}/"]
            printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
            until(lambda: penstock.status()["listeners"][0]["connections_active"] == 0, penstock)
            spread = [worker["connections"] for worker in penstock.status()["workers"]]
            assert sum(spread) > 500, printed
            assert max(spread) < 1.2 * min(spread)
            for _ in range(40):
                fetch(site.ports.http)
            status = penstock.status()
            (listener,) = status["listeners"]
            (target,) = status["target_groups"][0]["targets"]
            assert listener["connections"] == sum(worker["connections"] for worker in status["workers"])
            assert listener["connections"] == sum(spread) + 40
            assert target["in_flight"] == listener["connections_active"] == 0
            for _ in range(20):
                assert dig(site.ports.dns, "web.services", "A").data == ["127.0.0.1"]
            assert penstock.status()["dns"]["top_names"] == [{"name": "web.services.", "queries": 20, "error": 0}]
            counted = metrics(penstock)
            assert counted["penstock_listener_connections_total"] == listener["connections"]
            assert counted["penstock_http_requests_total"] == listener["requests"]
            assert counted["penstock_http_request_duration_seconds_count"] == listener["requests"]
            assert counted["penstock_target_requests_total"] == target["requests"]
            assert counted["penstock_dns_queries_total"] == 20
            assert counted["penstock_worker_up"] == 2
            assert counted["penstock_worker_cpu_seconds_total"] > 0
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert len(lines) == listener["requests"]
    # Every line is whole, whoever wrote it; 460 is how wrk left at its end.
    assert {json.loads(line)["status"] for line in lines} <= {200, 460}


def test_a_killed_worker_is_replaced_and_the_others_keep_serving(tmp_path: Path) -> None:
    wrk = need_tool("wrk", package="wrk")
    site, origin = Site(tmp_path), Origin(response(b"hello"))
    with serving(origin):
        site.write(origin.port)
        with site.running() as penstock:
            command = [wrk, "-t1", "-c64", "-d60s", f"http://127.0.0.1:{site.ports.http}/"]
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                time.sleep(1)
                before = metrics(penstock)["penstock_http_requests_total"]
                victim, survivor = processes(penstock)
                os.kill(victim, signal.SIGKILL)
                until(lambda: "was killed by SIGKILL" in penstock.output(), penstock)
                # Whether the new one serves yet or not: nobody new is turned away.
                for _ in range(15):
                    assert fetch(site.ports.http) == b"hello"
                    assert dig(site.ports.dns, "web.services", "A").data == ["127.0.0.1"]
                assert penstock.get("/readyz")[0] == 200
                until(lambda: all(worker["up"] for worker in penstock.status()["workers"]), penstock)
                assert metrics(penstock)["penstock_http_requests_total"] > before, "what the dead one counted stays"
                load.send_signal(signal.SIGINT)
                printed, _ = load.communicate(timeout=30)
            finally:
                load.kill()
                load.communicate()
            successor, still = processes(penstock)
            assert still == survivor
            assert successor not in (victim, survivor)
            assert [worker["restarts"] for worker in penstock.status()["workers"]] == [1, 0]
            for _ in range(40):
                assert fetch(site.ports.http) == b"hello"
            until(lambda: penstock.status()["workers"][0]["connections"] > 0, penstock)
            assert penstock.output().count("was killed by") == 1, "a death is told once"
    assert "Non-2xx" not in printed, printed
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", printed)
    assert errors is not None, printed
    connect, read, write, _ = map(int, errors.groups())
    assert connect == 0, printed
    # Its connections ended with it, as their clients found out when they next read or wrote, and no others did; some of
    # those opened again may have waited in its queue.
    assert 0 < read + write < 128, printed


def test_a_change_reaches_all_workers_or_none(tmp_path: Path) -> None:
    site, old, new = Site(tmp_path), Origin(response(b"old")), Origin(response(b"new"))
    with serving(old, new), socket.create_server(("127.0.0.1", 0)) as occupied:
        taken = occupied.getsockname()[1]
        site.write(old.port)
        with site.running() as penstock:
            answers = {fetch(site.ports.http) for _ in range(40)}
            assert answers == {b"old"}

            site.write(new.port, changed=lambda source: source.replace(f"port: {site.ports.http}", f"port: {taken}"))
            refused = site.reload(penstock, "rejected")["messages"]
            assert refused == [f"cannot listen on 127.0.0.1:{taken}: another process does (`ss -lntup` shows which)"]

            (tmp_path / "folder").mkdir()
            site.write(new.port, changed=lambda source: f"{source}access_log: {{file: folder}}\n")
            (refused,) = site.reload(penstock, "rejected")["messages"]  # this one only a worker can find out
            assert refused == f"cannot write the access log {tmp_path}/folder: Is a directory"
            assert {fetch(site.ports.http) for _ in range(40)} == {b"old"}

            site.write(new.port)
            site.reload(penstock, "applied")
            assert {fetch(site.ports.http) for _ in range(40)} == {b"new"}
            answered = {dig(site.ports.dns, "web.services", "SRV").data[0].split()[2] for _ in range(20)}
            assert answered == {str(new.port)}

            # Who begins after a change begins with what it said.
            victim = processes(penstock)[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda: penstock.status()["workers"][0]["restarts"] == 1, penstock)
            until(lambda: penstock.status()["workers"][0]["up"], penstock)
            assert {fetch(site.ports.http) for _ in range(40)} == {b"new"}


def test_one_process_checks_and_all_workers_know(tmp_path: Path) -> None:
    """As many checks as one process would make, and a flip reaches the answers of every worker."""
    site, steady, failing = Site(tmp_path), Origin(response(b"steady")), Origin(response(b"failing"))
    with serving(steady, failing):
        site.write(steady.port, failing.port)
        with site.running() as penstock:

            def become(*wanted: str) -> None:
                def states() -> tuple[str, ...]:
                    (group,) = penstock.status()["target_groups"]
                    return tuple(target["health"]["state"] for target in group["targets"])

                until(lambda: states() == wanted, penstock)
                penstock.status()  # asks every worker, who by then has read what it was told before

            become("healthy", "healthy")
            assert {fetch(site.ports.http) for _ in range(40)} == {b"steady", b"failing"}
            failing.script = (response(status=500),)
            become("healthy", "unhealthy")
            assert {fetch(site.ports.http) for _ in range(40)} == {b"steady"}
            answered = {tuple(dig(site.ports.dns, "web.services", "SRV").data) for _ in range(20)}
            assert [len(records) for records in answered] == [1]
            assert penstock.output().count("is unhealthy") == 1
            # The one that begins now knows it from the start.
            os.kill(processes(penstock)[1], signal.SIGKILL)
            until(lambda: penstock.status()["workers"][1]["restarts"] == 1, penstock)
            until(lambda: penstock.status()["workers"][1]["up"], penstock)
            assert {fetch(site.ports.http) for _ in range(40)} == {b"steady"}
            failing.script = (response(b"failing"),)
            become("healthy", "healthy")
            assert {fetch(site.ports.http) for _ in range(40)} == {b"steady", b"failing"}


def test_a_request_is_explained_whichever_worker_served_it(tmp_path: Path) -> None:
    site, origin = Site(tmp_path), Origin(response(b"hello"))
    with serving(origin):
        site.write(origin.port)
        with site.running() as penstock:
            for number in range(40):
                fetch(site.ports.http, f"/{number}")
            assert all(worker["connections"] for worker in penstock.status()["workers"])
            for request in [request for request in origin.requests if request.target != b"/health"]:
                name = (request.value(b"X-Amzn-Trace-Id") or b"").decode()
                code, body = penstock.get(f"/explain/{name.removeprefix('Root=')}")
                assert code == 200, name
                report = json.loads(body)
                assert report["asked"] == f"GET 127.0.0.1{request.target.decode()}"
                assert report["outcome"]["status"] == 200
                (candidate,) = report["shares"][0]["candidates"]
                assert (candidate["target"], candidate["why_not"]) == (f"127.0.0.1:{origin.port}", "")
            assert penstock.get("/explain/1-00000000-000000000000000000000000")[0] == 404


def test_workers_share_a_unix_socket(tmp_path: Path) -> None:
    """It is bound once, so it is there while any of them is, and whoever is killed and comes back accepts from it."""
    curl = need_tool("curl", package="curl")
    site, origin, path = Site(tmp_path), Origin(response(b"hello")), tmp_path / "web.sock"
    listener = f"    - {{address: unix:{path}, protocol: HTTP, default_action: {{forward: tg-web}}}}\n"

    def with_socket(source: str) -> str:
        return source.replace("  listeners:\n", f"  listeners:\n{listener}")

    def ask() -> str:
        command = [curl, "-sS", "--max-time", "10", "--unix-socket", str(path), "http://localhost/"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    with serving(origin):
        site.write(origin.port)
        with site.running() as penstock:
            site.write(origin.port, changed=with_socket)
            site.reload(penstock, "applied")
            assert [ask() for _ in range(10)] == ["hello"] * 10
            for number in (0, 1):
                os.kill(processes(penstock)[number], signal.SIGKILL)
                until(lambda number=number: penstock.status()["workers"][number]["restarts"] == 1, penstock)
                assert ask() == "hello", "the other one, or who takes its place"
                until(lambda number=number: penstock.status()["workers"][number]["up"], penstock)
            assert [ask() for _ in range(10)] == ["hello"] * 10
            site.write(9, origin.port, changed=with_socket)
            site.reload(penstock, "applied")
            assert [ask() for _ in range(4)] == ["hello"] * 4
            site.write(origin.port)
            site.reload(penstock, "applied")
            assert not path.exists()
            site.write(origin.port, changed=with_socket)
            site.reload(penstock, "applied")
            assert ask() == "hello"
            listeners = {each["listener"]: each["connections"] for each in penstock.status()["listeners"]}
            assert listeners[f"unix:{path}"] >= 1
        assert not path.exists()


def test_sigterm_drains_all_workers(tmp_path: Path) -> None:
    entered, opened = threading.Semaphore(0), threading.Event()

    async def slow(exchange: Exchange) -> None:
        if exchange.request.target != b"/health":
            entered.release()
            while not opened.is_set():
                await asyncio.sleep(0.01)
        exchange.writer.write(response(b"at last"))

    site, origin, answers = Site(tmp_path, drain="20s"), Origin(slow), []
    with serving(origin):
        site.write(origin.port)
        with site.running() as penstock:
            clients = [threading.Thread(target=lambda: answers.append(fetch(site.ports.http))) for _ in range(8)]
            for client in clients:
                client.start()
            for _ in clients:
                assert entered.acquire(timeout=20)
            workers = processes(penstock)
            # systemd sends it to every process of a service; the workers wait for their supervisor's word.
            for process in (*workers, penstock.pid):
                os.kill(process, signal.SIGTERM)
            until(lambda: penstock.get("/readyz") == (503, b"draining\n"), penstock)
            until(lambda: _refuses(site.ports.http), penstock)
            opened.set()
            for client in clients:
                client.join(20)
            assert penstock.wait(20) == 0
            assert answers == [b"at last"] * 8
            assert not any(map(is_there, workers))


def test_workers_whose_supervisor_dies_end(tmp_path: Path) -> None:
    site, origin = Site(tmp_path), Origin(response(b"hello"))
    with serving(origin):
        site.write(origin.port)
        penstock = site.running()
        penstock.__enter__()
        try:
            workers = processes(penstock)
            assert fetch(site.ports.http) == b"hello"
            penstock.signal(signal.SIGKILL)
            assert penstock.wait(10) == -signal.SIGKILL
            until(lambda: not any(map(is_there, workers)), penstock)
            assert penstock.output().count("the supervisor is gone: draining") == 2
            assert "Traceback" not in penstock.output()
            socket.create_server(("127.0.0.1", site.ports.http)).close()
        finally:
            penstock._end()


def test_a_port_in_use_is_said_once_and_nothing_is_started(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write(9)
    with socket.create_server(("127.0.0.1", site.ports.http)):
        command = [sys.executable, "-m", "penstock.control", "run", str(site.file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, cwd=tmp_path)
    assert done.returncode == 3
    sentence = f"cannot listen on 127.0.0.1:{site.ports.http}: another process does (`ss -lntup` shows which)"
    assert done.stderr == f"penstock: {sentence}\n"


def test_a_second_penstock_with_workers_does_not_join_the_first(tmp_path: Path) -> None:
    """SO_REUSEPORT would let it, silently, and it would get half of the traffic."""
    site, origin = Site(tmp_path), Origin()
    with serving(origin):
        site.write(origin.port)
        with site.running():
            command = [sys.executable, "-m", "penstock.control", "run", str(site.file)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, cwd=tmp_path)
            assert done.returncode == 3
            assert "another process does" in done.stderr


def _refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_a_tls_session_is_resumed_by_whichever_worker_the_client_meets(tmp_path: Path) -> None:
    site = Site(tmp_path, "certificates: [{name: dev, self_signed: [localhost]}]")
    secure = free_port()
    listener = (
        f"- {{port: {secure}, address: 127.0.0.1, protocol: HTTPS, certificate: dev, "
        "default_action: {fixed_response: {status: 200}}}"
    )
    site.write(9, changed=lambda source: source.replace("  listeners:\n", f"  listeners:\n    {listener}\n"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    session: ssl.SSLSession | None = None
    resumed = []
    with site.running() as penstock:
        for _ in range(20):
            with (
                socket.create_connection(("127.0.0.1", secure), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
            ):
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while client.recv(4096):
                    pass
                resumed.append(client.session_reused)
                session = client.session
        assert all(worker["connections"] for worker in penstock.status()["workers"])
    assert resumed == [False] + [True] * 19
