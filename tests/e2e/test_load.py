"""Under load: no errors on 64 connections, and SIGTERM in the middle of it costs nobody an answer."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import Exchange, Origin, PenstockProcess, free_port, need_tool, response, run, serving

CONNECTIONS = 64
PROTOCOLS = ["HTTP", "HTTPS"]


def configured(folder: Path, protocol: str, target: int) -> tuple[Path, int, str]:
    file, port, admin = folder / "penstock.yaml", free_port(), f"127.0.0.1:{free_port()}"
    certificate = ", certificate: dev" if protocol == "HTTPS" else ""
    file.write_text(f"""\
load_balancer:
  name: lb
  security_groups: [web-sg]
  listeners: [{{port: {port}, address: 127.0.0.1, protocol: {protocol}{certificate}}}]
  target_groups: [{{name: tg, targets: [{{ip: 127.0.0.1, port: {target}}}]}}]
certificates: [{{name: dev, self_signed: [localhost]}}]
security: {{security_groups: {{web-sg: {{ingress: [{{port: all, protocol: tcp, source: 127.0.0.0/8}}]}}}}}}
admin: {{listen: "{admin}"}}
access_log: {{file: access.log}}
shutdown: {{grace: 0s}}
""")
    return file, port, admin


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_wrk_sees_no_error_and_every_request_is_counted_and_logged(tmp_path: Path, protocol: str) -> None:
    wrk = need_tool("wrk", package="wrk")
    origin = Origin(response(b"ok"))
    with serving(origin):
        file, port, admin = configured(tmp_path, protocol, origin.port)
        with PenstockProcess(file, admin=admin) as penstock:
            url = f"{protocol.lower()}://127.0.0.1:{port}/"
            command = [wrk, "-t1", f"-c{CONNECTIONS}", "-d1s", url]
            printed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
            (listener,) = penstock.status()["listeners"]
    assert "Socket errors" not in printed, printed
    assert "Non-2xx" not in printed, printed
    done = re.search(r"(\d+) requests in", printed)
    assert done is not None
    assert int(done[1]) > 200
    with (tmp_path / "access.log").open() as log:
        logged = sum(1 for _ in log)
    # wrk leaves in the middle of one request per connection.
    assert int(done[1]) <= listener["requests"] <= logged <= int(done[1]) + CONNECTIONS


@dataclass
class Crowd:
    """Clients that ask again as soon as they are answered, until they cannot. Each answer is read to its end."""

    connect: Callable[[], object]
    complete: int = 0
    closing: int = 0
    cut_short: list[bytes] = field(default_factory=list)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self) -> None:
        while True:
            try:
                reader, writer = await self.connect()  # type: ignore[misc]
            except OSError:
                return  # nobody listens any more
            try:
                while await self.exchange(reader, writer):
                    pass
            finally:
                writer.transport.abort()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can be used again."""
        answer = b""
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
            while not answer.endswith(b"\r\n\r\nok"):
                more = await reader.read(4096)
                if not more:
                    break
                answer += more
        except ConnectionError:
            pass
        if not answer.endswith(b"\r\n\r\nok"):
            # Without a byte it was closed while idle, which HTTP allows at any time (RFC 9112 9.5).
            self.cut_short += [answer] if answer else []
            return False
        self.complete += 1
        if self.complete > 4 * CONNECTIONS:
            self.enough.set()
        if b"\r\nconnection: close\r\n" in answer.lower():
            self.closing += 1
            return False
        return True


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sigterm_in_the_middle_of_load_loses_no_request_that_was_taken(tmp_path: Path, protocol: str) -> None:
    holding, released = threading.Event(), threading.Event()
    held = [0]

    async def slowly(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        if holding.is_set():  # so that many connections have a request under way when the signal comes
            held[0] += 1
            while not released.is_set():
                await asyncio.sleep(0.01)
        exchange.writer.write(response(b"ok"))

    origin = Origin(slowly)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def scenario(port: int, penstock: PenstockProcess) -> Crowd:
        secure = context if protocol == "HTTPS" else None
        crowd = Crowd(lambda: asyncio.open_connection("127.0.0.1", port, ssl=secure))
        clients = [asyncio.create_task(crowd.client()) for _ in range(CONNECTIONS)]
        await crowd.enough.wait()
        holding.set()
        while held[0] < CONNECTIONS // 2:
            await asyncio.sleep(0.01)
        penstock.signal(signal.SIGTERM)
        while await accepts(port):
            await asyncio.sleep(0.01)
        released.set()
        await asyncio.gather(*clients)
        return crowd

    with serving(origin):
        file, port, admin = configured(tmp_path, protocol, origin.port)
        with PenstockProcess(file, admin=admin) as penstock:
            crowd = run(scenario(port, penstock))
            assert penstock.wait(10) == 0
        taken = len(origin.requests)
    assert crowd.cut_short == []
    assert crowd.complete == taken
    assert crowd.closing >= CONNECTIONS // 4, "those under way were told that their answer is the last"
    with (tmp_path / "access.log").open() as log:
        assert sum(1 for _ in log) == taken
