"""`penstock run` as a process: how it starts, why it does not, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support import Exchange, Origin, PenstockProcess, need_tool, response, serving
from support.configuration import Ports, text
from support.curl import curl


def penstock(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself."""
    command = [sys.executable, "-m", "penstock.control", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, **options)  # type: ignore[call-overload]


def configured(folder: Path, ports: Ports, *targets: int, drain: str = "5s") -> Path:
    file = folder / "penstock.yaml"
    file.write_text(text(ports, *targets, drain=drain))
    return file


def fetch(port: int, path: str = "/") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read()


class Gate:
    """A reply that waits until the test opens it; health checks are answered at once."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    async def reply(self, exchange: Exchange) -> None:
        if exchange.request.target != b"/health":
            self.entered.set()
            await asyncio.to_thread(self._open.wait, 20)
        exchange.writer.write(response(b"at last"))


def in_background(port: int, answers: list[object]) -> threading.Thread:
    def work() -> None:
        try:
            answers.append(fetch(port, "/slow"))
        except OSError as error:
            answers.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_until_refused(port: int) -> None:
    """/readyz says so first, for whoever sends clients here; the listeners close right after."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # it closed while this one was in its queue
    raise AssertionError(f"port {port} is still listened on")


def test_it_serves_and_says_where_it_listens(tmp_path: Path) -> None:
    ports, origin = Ports(), Origin(response(b"hello"))
    with serving(origin):
        file = configured(tmp_path, ports, origin.port)
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as running:
            assert fetch(ports.http) == b"hello"
            for line in (
                f"INFO listening on 127.0.0.1:{ports.http} (HTTP, lb)",
                f"INFO listening on 127.0.0.1:{ports.dns} (DNS, UDP and TCP)",
                f"INFO listening on 127.0.0.1:{ports.admin} (admin)",
            ):
                assert line in running.output()
            families = text_string_to_metric_families(running.get("/metrics")[1].decode())
            target = {"target_group": "tg-web", "target": f"127.0.0.1:{origin.port}"}
            assert ("penstock_target_requests_total", target, 1.0) in [s[:3] for f in families for s in f.samples]
            shown = penstock("status", "--admin", f"127.0.0.1:{ports.admin}")
            assert shown.returncode == 0
            assert f"127.0.0.1:{origin.port}" in shown.stdout


def test_the_admin_address_as_curl_sees_it(tmp_path: Path) -> None:
    ports, origin = Ports(), Origin(response(b"hello"))
    with serving(origin):
        file = configured(tmp_path, ports, origin.port)
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}"):
            admin = f"http://127.0.0.1:{ports.admin}"
            assert curl(f"{admin}/healthz").text == "ok\n"
            assert curl(f"{admin}/readyz").text == "ready\n"
            assert curl("-o", "/dev/null", "-w", "%{http_code}", f"{admin}/nothing").text == "404"
            kind = ["-o", "/dev/null", "-w", "%{content_type}"]
            assert curl(*kind, f"{admin}/status").text.startswith("application/json")
            assert curl(*kind, f"{admin}/metrics").text.startswith("text/plain; version=")
            status = curl(f"{admin}/status").json
            assert [listener["listener"] for listener in status["listeners"]] == [f"127.0.0.1:{ports.http}"]
            assert [group["target_group"] for group in status["target_groups"]] == ["tg-web"]
            assert status["dns"]["services"][0]["names"] == ["web.services"]


def test_the_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    ports = Ports()
    file = configured(tmp_path, ports, 9)
    with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as running:
        limits = Path(f"/proc/{running.pid}/limits").read_text()
        (soft, hard) = next(line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files"))
        assert soft == hard


def test_a_moved_access_log_is_begun_anew(tmp_path: Path) -> None:
    """As logrotate does it: move the file, send SIGUSR1, and no line is lost or written twice."""
    ports, origin = Ports(), Origin(*[response(b"hello")] * 3)
    with serving(origin):
        file = configured(tmp_path, ports, origin.port)
        file.write_text(file.read_text() + "\naccess_log: {file: access.log, format: alb}\n")
        log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as running:
            fetch(ports.http, "/before")
            log.rename(moved)
            running.signal(signal.SIGUSR1)
            while not log.exists():
                time.sleep(0.01)
            fetch(ports.http, "/after")
        assert [line.split()[13] for line in moved.read_text().splitlines()] == [
            f"http://127.0.0.1:{ports.http}/before"
        ]
        assert [line.split()[13] for line in log.read_text().splitlines()] == [f"http://127.0.0.1:{ports.http}/after"]
        assert "Root=1-" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_slow_request_finish(tmp_path: Path, number: signal.Signals) -> None:
    ports, gate = Ports(), Gate()
    origin = Origin(gate.reply)
    with serving(origin):
        file = configured(tmp_path, ports, origin.port, drain="20s")
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as running:
            answers: list[object] = []
            thread = in_background(ports.http, answers)
            assert gate.entered.wait(10)
            running.signal(number)
            while running.get("/readyz") != (503, b"draining\n"):
                time.sleep(0.01)
            wait_until_refused(ports.http)
            gate.open()
            thread.join()
            assert answers == [b"at last"]
            assert running.wait(10) == 0
            assert f"INFO {number.name}: draining" in running.output()


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    ports, gate = Ports(), Gate()
    origin = Origin(gate.reply)
    with serving(origin):
        file = configured(tmp_path, ports, origin.port, drain="0.3s")
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as running:
            answers: list[object] = []
            thread = in_background(ports.http, answers)
            assert gate.entered.wait(10)
            running.signal(signal.SIGTERM)
            assert running.wait(5) == 0
            thread.join()
            gate.open()
            assert not isinstance(answers[0], bytes)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    ports, gate = Ports(), Gate()
    origin = Origin(gate.reply)
    file = tmp_path / "penstock.yaml"

    def signal_twice() -> None:
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as running:
            thread = in_background(ports.http, [])
            assert gate.entered.wait(10)
            running.signal(signal.SIGTERM)
            while running.get("/readyz")[0] != 503:
                time.sleep(0.01)
            running.signal(signal.SIGTERM)
            running.wait(5)
            thread.join()
            gate.open()

    with serving(origin):
        configured(tmp_path, ports, origin.port, drain="60s")
        with pytest.raises(AssertionError, match="exit code 143"):  # 128 + SIGTERM, as a shell says it
            signal_twice()


@pytest.mark.parametrize("taken", ["http", "dns", "admin"])
def test_a_port_in_use_is_one_sentence(tmp_path: Path, taken: str) -> None:
    ports = Ports()
    port = getattr(ports, taken)
    file = configured(tmp_path, ports, 9)
    with socket.create_server(("127.0.0.1", port)):
        done = penstock("run", file)
    assert done.returncode == 3
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"penstock: cannot listen on 127.0.0.1:{port}")
    assert "another process does" in sentence


def test_an_address_of_somebody_else_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    file.write_text(text(Ports(), 9).replace("address: 127.0.0.1, protocol", "address: 192.0.2.1, protocol"))
    done = penstock("run", file)
    assert done.returncode == 3
    assert done.stderr.endswith(": no interface of this machine has that address\n")
    assert len(done.stderr.splitlines()) == 1


def may_bind_anything() -> bool:
    """Some machines let everyone have every port."""
    path = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return not path.exists() or int(path.read_text()) <= 79


def without(capability: str) -> list[str]:
    """What to put before a command so that it is not root's privilege but a plain user's right that counts."""
    if os.geteuid() != 0:
        return []
    lost = ",".join(f"-{name}" for name in capability.split(","))
    return [need_tool("setpriv", package="util-linux"), f"--bounding-set={lost}", f"--inh-caps={lost}"]


@pytest.mark.skipif(may_bind_anything(), reason="here everyone may bind ports below 1024")
def test_a_port_below_1024_without_the_right_is_one_sentence(tmp_path: Path) -> None:
    ports = Ports()
    ports.http = 79
    file = configured(tmp_path, ports, 9)
    # Still root, where it is, and so able to read its own files, but without this one privilege.
    command = [*without("net_bind_service"), sys.executable, "-m", "penstock.control", "run", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd="/")
    assert done.returncode == 3, done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("penstock: cannot listen on 127.0.0.1:79: ports below 1024 are for root")


@pytest.mark.parametrize(
    ("what", "reason"),
    [("missing", "No such file or directory"), ("folder", "Is a directory"), ("secret", "Permission denied")],
)
def test_an_unreadable_file_is_one_sentence(tmp_path: Path, what: str, reason: str) -> None:
    file = tmp_path / what
    if what == "folder":
        file.mkdir()
    elif what == "secret":
        file.touch(mode=0o000)
    command = [*without("dac_override,dac_read_search"), sys.executable, "-m", "penstock.control", "run", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"penstock: {file} cannot be read: {reason}\n"


def test_mistakes_are_all_told_and_nothing_is_started(tmp_path: Path) -> None:
    file = configured(tmp_path, Ports(), 9)
    file.write_text(file.read_text().replace("HTTP,", "HTTTP,") + "\nadmn: {}\n")
    done = penstock("run", file)
    assert done.returncode == 1
    assert [line.startswith(f"{file}:") for line in done.stderr.splitlines()] == [True, True, False]


def test_a_log_in_json(tmp_path: Path) -> None:
    ports = Ports()
    file = configured(tmp_path, ports, 9)
    arguments = ["run", "--log-format", "json"]
    with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}", arguments=arguments) as running:
        lines = [json.loads(line) for line in running.output().splitlines()]
        assert lines[0]["level"] == "info"
        assert lines[0]["message"] == f"listening on 127.0.0.1:{ports.http} (HTTP, lb)"
        assert lines[0]["time"].endswith("Z")


def test_the_library_runs_a_file_too(tmp_path: Path) -> None:
    """What the README shows to those who start it from Python."""
    ports = Ports()
    file = configured(tmp_path, ports, 9)
    code = f"from penstock.control import run; run({str(file)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            try:
                if fetch(ports.admin, "/readyz") == b"ready\n":
                    break
            except OSError:
                time.sleep(0.02)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
