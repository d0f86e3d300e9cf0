"""File descriptors run out in a real process: those who are in are served, and when some are free again all is well."""

from __future__ import annotations

import resource
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import Origin, PenstockProcess, free_port, response, serving
from support.curl import curl

SPARE = 20


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit(2) and /proc")
def test_it_recovers_and_says_so(tmp_path: Path) -> None:
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
""")
        penstock = stack.enter_context(PenstockProcess(config, admin=f"127.0.0.1:{admin}"))
        descriptors = Path(f"/proc/{penstock.pid}/fd")
        limit = len(list(descriptors.iterdir())) + SPARE
        hard = resource.prlimit(penstock.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(penstock.pid, resource.RLIMIT_NOFILE, (limit, hard))
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
