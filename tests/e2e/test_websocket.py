"""WebSocket: an upgrade becomes a tunnel, and frames pass both ways as they are, over HTTP and HTTPS."""

from __future__ import annotations

import json
import os
import socket
import ssl
from pathlib import Path

import pytest

from support import Origin, PenstockProcess, free_port, response, serving
from support.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Client, Frame, echo_frames

LARGE = os.urandom(1 << 20)


@pytest.mark.parametrize("protocol", ["HTTP", "HTTPS"])
def test_frames_pass_both_ways_until_the_close(tmp_path: Path, protocol: str) -> None:
    origin = Origin(echo_frames)
    with serving(origin):
        file, port, admin = configured(tmp_path, protocol, origin.port)
        with PenstockProcess(file, admin=admin) as penstock, connected(port, protocol) as connection:
            client = Client(connection, host="ws.example.org", path="/chat?room=1")
            assert b"\r\nupgrade: websocket" in client.head.lower()
            client.send(TEXT, b"hello")
            assert client.receive() == Frame(TEXT, True, b"hello", masked=False)
            client.send(PING, b"are you there")
            assert client.receive() == Frame(PONG, True, b"are you there", masked=False)
            client.send(TEXT, b"two ", final=False)
            client.send(CONTINUATION, b"parts")
            assert client.receive() == Frame(TEXT, False, b"two ", masked=False)
            assert client.receive() == Frame(CONTINUATION, True, b"parts", masked=False)
            client.send(BINARY, LARGE)
            assert client.receive() == Frame(BINARY, True, LARGE, masked=False)
            assert penstock.status()["target_groups"][0]["targets"][0]["in_flight"] == 1
            client.send(CLOSE, (1000).to_bytes(2))
            assert client.receive() == Frame(CLOSE, True, (1000).to_bytes(2), masked=False)
            assert client.ended()
        (request,) = origin.requests
    assert request.target == b"/chat?room=1"
    assert request.value(b"X-Forwarded-Proto") == protocol.lower().encode()
    (line,) = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    assert line["type"] == {"HTTP": "ws", "HTTPS": "wss"}[protocol]
    assert line["status"] == line["target_status"] == 101
    assert line["sent_bytes"] > len(LARGE)
    assert line["received_bytes"] > len(LARGE)


def test_an_origin_that_declines_is_heard(tmp_path: Path) -> None:
    origin = Origin(response(b"not here", status=404))
    with serving(origin):
        file, port, admin = configured(tmp_path, "HTTP", origin.port)
        with PenstockProcess(file, admin=admin), connected(port, "HTTP") as connection:
            with pytest.raises(AssertionError, match="404"):
                Client(connection, host="ws.example.org")
            assert origin.requests[0].value(b"Upgrade") == b"websocket"


def configured(folder: Path, protocol: str, target: int) -> tuple[Path, int, str]:
    file, port, admin = folder / "penstock.yaml", free_port(), f"127.0.0.1:{free_port()}"
    certificate = ", certificate: dev" if protocol == "HTTPS" else ""
    file.write_text(f"""\
load_balancer:
  name: lb
  listeners: [{{port: {port}, address: 127.0.0.1, protocol: {protocol}{certificate}}}]
  target_groups: [{{name: tg, targets: [{{ip: 127.0.0.1, port: {target}}}]}}]
certificates: [{{name: dev, self_signed: [localhost]}}]
admin: {{listen: "{admin}"}}
access_log: {{file: access.log}}
""")
    return file, port, admin


def connected(port: int, protocol: str) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    if protocol == "HTTP":
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)
