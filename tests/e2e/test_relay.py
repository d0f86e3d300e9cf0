"""TCP and TLS listeners: bytes go both ways as they are, and the end of one direction is not the end of the other."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import Exchange, Origin, PenstockProcess, free_port, serving

BLOCK = os.urandom(1 << 20)
BLOCKS = 48


@dataclass
class Site:
    penstock: PenstockProcess
    ports: dict[str, int]
    target: socket.socket
    log: Path

    def connect(self, protocol: str) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.ports[protocol]), timeout=10)
        if protocol == "TCP":
            return plain
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname="db.example.org")

    def accept(self) -> socket.socket:
        connection, _ = self.target.accept()
        connection.settimeout(10)
        return connection


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    ports = {"TCP": free_port(), "TLS": free_port()}
    admin = f"127.0.0.1:{free_port()}"
    folder = tmp_path_factory.mktemp("relay")
    file = folder / "penstock.yaml"
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(10)
        file.write_text(f"""\
load_balancer:
  name: nlb
  type: network
  listeners:
    - {{port: {ports["TCP"]}, address: 127.0.0.1, protocol: TCP}}
    - {{port: {ports["TLS"]}, address: 127.0.0.1, protocol: TLS, ssl_policy: TLS-1-2, certificate: dev}}
  target_groups: [{{name: tg-db, targets: [{{ip: 127.0.0.1, port: {target.getsockname()[1]}}}]}}]
certificates: [{{name: dev, self_signed: [db.example.org]}}]
admin: {{listen: "{admin}"}}
access_log: {{file: access.log}}
""")
        with PenstockProcess(file, admin=admin) as penstock:
            yield Site(penstock, ports, target, folder / "access.log")


def read_all(connection: socket.socket) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while data := connection.recv(1 << 18):
        size += len(data)
        digest.update(data)
    return size, digest.hexdigest()


def send_all(connection: socket.socket) -> None:
    for _ in range(BLOCKS):
        connection.sendall(BLOCK)
    connection.shutdown(socket.SHUT_WR)


EVERYTHING = (BLOCKS * len(BLOCK), hashlib.sha256(BLOCK * BLOCKS).hexdigest())


def test_tcp_both_ways_at_once_each_with_its_own_end(site: Site) -> None:
    with site.connect("TCP") as client, site.accept() as target:
        senders = [threading.Thread(target=send_all, args=(end,)) for end in (client, target)]
        arrived: list[tuple[int, str]] = []
        reader = threading.Thread(target=lambda: arrived.append(read_all(target)))
        for thread in (*senders, reader):
            thread.start()
        arrived.append(read_all(client))
        for thread in (*senders, reader):
            thread.join()
    assert arrived == [EVERYTHING, EVERYTHING]


def test_a_client_that_says_no_more_is_still_answered(site: Site) -> None:
    with site.connect("TCP") as client, site.accept() as target:
        client.sendall(b"all I have to say")
        client.shutdown(socket.SHUT_WR)
        assert target.makefile("rb").read() == b"all I have to say"
        target.sendall(b"and the answer ")
        target.sendall(b"comes after the end")
        target.close()
        assert client.makefile("rb").read() == b"and the answer comes after the end"


def test_a_target_that_says_no_more_is_still_talked_to(site: Site) -> None:
    with site.connect("TCP") as client, site.accept() as target:
        target.sendall(b"220 ready")  # a protocol in which the server begins, as SMTP
        target.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"220 ready"
        client.sendall(b"QUIT")
        client.shutdown(socket.SHUT_WR)
        assert target.makefile("rb").read() == b"QUIT"


def test_tls_ends_at_the_listener_and_what_is_inside_goes_on_as_it_is(site: Site) -> None:
    with site.connect("TLS") as client, site.accept() as target:
        client.sendall(b"SELECT 1;")
        assert target.recv(100) == b"SELECT 1;"
        sender = threading.Thread(target=send_all, args=(target,))
        sender.start()
        assert read_all(client) == EVERYTHING, "all that the target sent before it closed"
        sender.join()


def test_a_large_upload_by_tls(site: Site) -> None:
    with site.connect("TLS") as client, site.accept() as target:

        def send() -> None:
            for _ in range(BLOCKS):
                client.sendall(BLOCK)
            client.unwrap()  # close_notify, which is how TLS says that this is all

        sender = threading.Thread(target=send)
        sender.start()
        assert read_all(target) == EVERYTHING
        target.close()
        sender.join()


def test_a_connection_is_one_line_of_log_and_counted(site: Site) -> None:
    with site.connect("TLS") as client, site.accept() as target:
        address, port = client.getsockname()
        client.sendall(b"12345")
        assert target.recv(100) == b"12345"
        target.sendall(b"123")
        assert client.recv(100) == b"123"
        (group,) = site.penstock.status()["target_groups"]
        assert group["targets"][0]["in_flight"] >= 1  # those of the tests before may still be ending
        client.close()
        assert target.recv(1) == b""
    line = logged(site.log, f"{address}:{port}")
    assert (line["type"], line["received_bytes"], line["sent_bytes"]) == ("tls", 5, 3)
    assert (line["target_group"], line["certificate"], line["reason"]) == ("tg-db", "dev", "client_closed")
    assert line["tls_protocol"] in ("TLSv1.2", "TLSv1.3")


def logged(log: Path, client: str) -> dict[str, Any]:
    """The line of that client, which is written within a second."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [line for line in map(json.loads, log.read_text().splitlines()) if line["client"] == client]
        if lines:
            (line,) = lines
            return line
        time.sleep(0.02)
    raise AssertionError(f"nothing was logged of {client}")


def test_a_target_that_refuses_is_passed_over(tmp_path: Path) -> None:
    port, closed, admin = free_port(), free_port(), f"127.0.0.1:{free_port()}"

    async def greet(exchange: Exchange) -> None:
        exchange.writer.write(b"here")
        exchange.writer.close()

    origin = Origin(greet)
    with serving(origin):
        file = tmp_path / "penstock.yaml"
        file.write_text(f"""\
load_balancer:
  name: nlb
  type: network
  listeners: [{{port: {port}, address: 127.0.0.1, protocol: TCP}}]
  target_groups:
    - {{name: tg-db, targets: [{{ip: 127.0.0.1, port: {closed}}}, {{ip: 127.0.0.1, port: {origin.port}}}]}}
admin: {{listen: "{admin}"}}
""")
        with PenstockProcess(file, admin=admin):
            for _ in range(4):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    assert client.makefile("rb").read() == b"here"
