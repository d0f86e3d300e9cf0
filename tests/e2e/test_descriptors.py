"""File descriptors run out in a real process: new clients are told so while some are left, those who are in are served,
and when there are enough again all is well."""

from __future__ import annotations

import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import Origin, PenstockProcess, free_port, response, serving
from support.curl import curl

SPARE = 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit(2) and /proc")


@contextmanager
def limited(tmp_path: Path, percent: int) -> Iterator[tuple[PenstockProcess, int, int]]:
    """A process that may open SPARE more descriptors, its port, and its limit."""
    origin = Origin(response(b"fine"))
    port, admin = free_port(), free_port()
    with ExitStack() as stack:
        stack.enter_context(serving(origin))
        config = tmp_path / "penstock.yaml"
        config.write_text(f"""\
load_balancer:
  name: lb
  listeners:
    - {{port: {port}, address: 127.0.0.1, protocol: HTTP, default_action: {{forward: tg}}}}
  target_groups:
    - {{name: tg, targets: [{{ip: 127.0.0.1, port: {origin.port}}}]}}
admin: {{listen: "127.0.0.1:{admin}"}}
limits: {{descriptors: {percent}}}
""")
        penstock = stack.enter_context(PenstockProcess(config, admin=f"127.0.0.1:{admin}"))
        limit = len(open_in(penstock)) + SPARE
        hard = resource.prlimit(penstock.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(penstock.pid, resource.RLIMIT_NOFILE, (limit, hard))
        yield penstock, port, limit


def open_in(penstock: PenstockProcess) -> list[Path]:
    return list(Path(f"/proc/{penstock.pid}/fd").iterdir())


def code_of(port: int) -> str:
    return curl("-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/").text


def test_new_clients_are_told_before_there_are_none(tmp_path: Path) -> None:
    with limited(tmp_path, 75) as (penstock, port, limit):
        refusing = f'penstock_listener_failures_total{{listener="127.0.0.1:{port}",reason="out_of_descriptors"}}'
        with ExitStack() as crowd:
            first = crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            while penstock.status()["limits"]["descriptors"] != limit:  # it is looked at once a second
                time.sleep(0.02)
            for _ in range(SPARE):
                if code_of(port) == "503":
                    break
                crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            else:
                raise AssertionError("nobody was turned away")
            assert len(open_in(penstock)) < limit, "the admin address is to be had"
            status = penstock.status()
            assert status["limits"]["out_of_descriptors"] is True
            assert status["limits"]["descriptors"] == limit
            assert "penstock_out_of_descriptors 1.0" in penstock.get("/metrics")[1].decode()
            assert refusing in penstock.get("/metrics")[1].decode()
            first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert first.recv(100).startswith(b"HTTP/1.1 200 "), "who is in is served"
        for _ in range(100):
            if code_of(port) == "200":
                break
            time.sleep(0.05)
        assert penstock.status()["limits"]["out_of_descriptors"] is False


def test_it_recovers_when_there_were_none(tmp_path: Path) -> None:
    with limited(tmp_path, 100) as (penstock, port, limit):
        descriptors = Path(f"/proc/{penstock.pid}/fd")
        with ExitStack() as crowd:
            first = crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
            for _ in range(3 * SPARE):
                crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)).sendall(b"GET")
            while len(list(descriptors.iterdir())) < limit - 1:  # one is kept to turn further clients away with
                time.sleep(0.01)
            first.sendall(b"\r\n")
            assert first.recv(100).startswith(b"HTTP/1.1 502 "), "no descriptor is left for a connection to the target"
        for _ in range(500):
            if len(list(descriptors.iterdir())) < limit - SPARE // 2:
                break
            time.sleep(0.01)
        answer = curl(f"http://127.0.0.1:{port}/")
        assert answer.text == "fine", "the same limit, and room again"
        metrics = penstock.get("/metrics")[1].decode()
        assert f"process_max_fds {float(limit)}" in metrics
        assert 'reason="connect_failed",target="127.0.0.1' in metrics
        assert f'penstock_listener_connections_active{{listener="127.0.0.1:{port}"}} 0.0' in metrics
