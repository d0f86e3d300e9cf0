"""What each kind of change in the file does to a running process, and what it leaves alone."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import Exchange, Origin, PenstockProcess, free_port, response, serving
from support.certificates import issue
from support.curl import curl
from support.dig import dig


@dataclass
class File:
    """The configuration, part by part; a test changes one and asks for a reload."""

    path: Path
    port: int = field(default_factory=free_port)
    dns: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    rules: str = ""
    listeners: str = ""
    targets: str = ""
    instances: str = "{id: i-1, ip: 10.0.1.10}"
    more: str = ""

    def write(self) -> None:
        self.path.write_text(f"""\
load_balancer:
  name: lb
  listeners:
    - {{port: {self.port}, address: 127.0.0.1, protocol: HTTP, default_action: {{forward: tg}}, rules: [{self.rules}]}}
{self.listeners}
  target_groups: [{{name: tg, targets: [{self.targets}]}}]
service_discovery:
  namespaces: [{{name: services, services: [{{name: api, dns_records: [{{type: A}}], instances: [{self.instances}]}}]}}]
dns: {{listen: "127.0.0.1:{self.dns}"}}
admin: {{listen: "127.0.0.1:{self.admin}"}}
{self.more}
""")

    @contextmanager
    def running(self) -> Iterator[Running]:
        self.write()
        with PenstockProcess(self.path, admin=f"127.0.0.1:{self.admin}", arguments=["run", "--no-watch"]) as penstock:
            yield Running(penstock, self)


@dataclass
class Running:
    penstock: PenstockProcess
    file: File

    def reload(self, wanted: str = "applied") -> list[str]:
        """Write, send SIGHUP, wait; what the process says of it."""
        self.file.write()
        before = self.outcomes()
        self.penstock.signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.outcomes() == before:
            assert time.monotonic() < deadline, self.penstock.output()
            time.sleep(0.01)
        last = self.penstock.status()["configuration"]["last_reload"]
        assert last["result"] == wanted, last
        return last["messages"]

    def outcomes(self) -> dict[str, int]:
        return self.penstock.status()["configuration"]["reloads"]

    def fetch(self, path: str = "/", *, times: int = 1) -> list[str]:
        return curl(*[f"http://127.0.0.1:{self.file.port}{path}"] * times, "-w", "\n").text.splitlines()


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "penstock.yaml")


def target(origin: Origin, weight: int = 1) -> str:
    return f"{{ip: 127.0.0.1, port: {origin.port}, weight: {weight}}}"


def test_weights_rules_targets_and_instances(file: File) -> None:
    one, two = Origin(response(b"one")), Origin(response(b"two"))
    with serving(one, two):
        file.targets = f"{target(one)}, {target(two)}"
        with file.running() as running:
            assert Counter(running.fetch(times=40)) == {"one": 20, "two": 20}

            file.targets = f"{target(one, 3)}, {target(two)}"
            (told,) = running.reload()
            assert told == f"target group tg: target 127.0.0.1:{one.port}: weight 3, was 1"
            assert Counter(running.fetch(times=40)) == {"one": 30, "two": 10}

            file.rules = (
                "{priority: 1, conditions: {path: [/new]}, action: {fixed_response: {status: 200, body: rule}}}"
            )
            running.reload()
            assert running.fetch("/new") == ["rule"]
            assert running.fetch() != ["rule"]

            file.targets = target(two)
            assert running.reload() == [f"target group tg: target 127.0.0.1:{one.port} removed"]
            assert Counter(running.fetch(times=10)) == {"two": 10}

            assert dig(file.dns, "api.services.", "A").data == ["10.0.1.10"]
            file.instances += ", {id: i-2, ip: 10.0.1.11}"
            running.reload()
            assert sorted(dig(file.dns, "api.services.", "A").data) == ["10.0.1.10", "10.0.1.11"]
            assert dig(file.dns, "i-2.api.services.", "A").data == ["10.0.1.11"]
            assert dig(file.dns, "-x", "10.0.1.11").data == ["i-2.api.services."]


def test_a_listener_comes_and_goes_and_its_neighbour_does_not_notice(file: File) -> None:
    new = free_port()
    file.rules = "{priority: 1, conditions: {path: ['/*']}, action: {fixed_response: {status: 200, body: old}}}"
    line = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
    with file.running() as running, socket.create_connection(("127.0.0.1", file.port), timeout=10) as neighbour:

        def still_there() -> bool:
            neighbour.sendall(line)
            return neighbour.recv(4096).endswith(b"old")

        assert still_there()
        file.listeners = (
            f"    - {{port: {new}, address: 127.0.0.1, protocol: HTTP, "
            "default_action: {fixed_response: {status: 200, body: new}}}"
        )
        assert running.reload() == [f"listener 127.0.0.1:{new} added"]
        with socket.create_connection(("127.0.0.1", new), timeout=10) as guest:
            guest.sendall(line)
            assert guest.recv(4096).endswith(b"new")
            assert still_there()

            file.listeners = ""
            assert running.reload() == [f"listener 127.0.0.1:{new} removed"]
            assert guest.recv(4096) == b"", "an idle connection of a listener that is gone is closed"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", new), timeout=10)
        assert still_there()
        assert running.penstock.status()["listeners"][0]["connections"] == 1


def test_a_removed_target_finishes_what_it_began_and_gets_nothing_more(file: File) -> None:
    entered, gate = threading.Event(), threading.Event()

    async def slowly(exchange: Exchange) -> None:
        entered.set()
        while not gate.is_set():
            await asyncio.sleep(0.01)
        exchange.writer.write(response(b"from the old one"))

    old, new = Origin(slowly), Origin(response(b"from the new one"))
    with serving(old, new):
        file.targets = target(old)
        with file.running() as running:
            answers: list[str] = []
            client = threading.Thread(target=lambda: answers.extend(running.fetch("/slow")))
            client.start()
            assert entered.wait(10)
            file.targets = target(new)
            running.reload()
            assert running.fetch(times=3) == ["from the new one"] * 3
            (group,) = running.penstock.status()["target_groups"]
            states = {each["target"]: (each["health"]["state"], each["in_flight"]) for each in group["targets"]}
            assert states[f"127.0.0.1:{old.port}"] == ("draining", 1)
            gate.set()
            client.join()
            assert answers == ["from the old one"]
            assert len(old.requests) == 1


def test_a_changed_certificate_is_shown_to_new_connections_and_old_ones_live_on(file: File, tmp_path: Path) -> None:
    first, second = issue("localhost", name="www"), issue("localhost", "www.example.org", name="www")
    port = free_port()
    file.listeners = f"    - {{port: {port}, address: 127.0.0.1, protocol: HTTPS, certificate: www}}"
    file.more = "certificates: [{name: www, cert_file: www.pem, key_file: www.key}]"
    origin = Origin(response(b"hello"))

    def install(number: int) -> None:
        certificate = (first, second)[number]
        (tmp_path / "www.pem").write_bytes(certificate.chain_pem)
        (tmp_path / "www.key").write_bytes(certificate.key_pem)

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connected() -> ssl.SSLSocket:
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10))

    def shown(connection: ssl.SSLSocket) -> str:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).endswith(b"hello")
        der = connection.getpeercert(binary_form=True)
        assert der is not None
        return ssl.DER_cert_to_PEM_cert(der)

    install(0)
    with serving(origin):
        file.targets = target(origin)
        with file.running() as running, connected() as old:
            assert shown(old) == first.chain_pem.decode()
            install(1)
            assert running.reload() == [f"listener 127.0.0.1:{port}: certificate www changed"]
            with connected() as new:
                assert shown(new) == second.chain_pem.decode()
            assert shown(old) == first.chain_pem.decode(), "the connection is the one from before"

            (tmp_path / "www.key").write_bytes(issue("localhost", key="P-384").key_pem)
            (mistake,) = running.reload("rejected")
            assert "www.key is not the key of the certificate in" in mistake
            with connected() as new:
                assert shown(new) == second.chain_pem.decode()


def test_a_bad_file_says_where_and_changes_nothing(file: File) -> None:
    origin = Origin(response(b"as before"))
    with serving(origin):
        file.targets = target(origin)
        with file.running() as running:
            file.rules = "{priority: 1, conditions: {path: ['/*']}, action: {forward: tg-nowhere}}"
            file.instances = "{id: i-1, ip: 10.0.1.300}"
            messages = running.reload("rejected")
            places = [message.split(": ")[:2] for message in messages]
            text = file.path.read_text().splitlines()
            for (place, path), value in zip(places, ("tg-nowhere", "10.0.1.300"), strict=True):
                name, line, column = place.rsplit(":", 2)
                assert name == str(file.path)
                assert text[int(line) - 1][int(column) - 1 :].startswith(value), (place, path)
            assert [path for _, path in places] == [
                "load_balancer.listeners[0].rules[0].action.forward",
                "service_discovery.namespaces[0].services[0].instances[0].ip",
            ]
            assert all(message in running.penstock.output() for message in messages)
            assert running.fetch() == ["as before"]
            assert dig(file.dns, "api.services.", "A").data == ["10.0.1.10"]


def test_a_port_that_is_taken_changes_nothing_either(file: File) -> None:
    file.rules = "{priority: 1, conditions: {path: ['/*']}, action: {fixed_response: {status: 200, body: old}}}"
    with file.running() as running, socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        file.rules = file.rules.replace("old", "new")
        file.listeners = f"    - {{port: {taken}, address: 127.0.0.1, protocol: HTTP}}"
        (sentence,) = running.reload("rejected")
        assert sentence.startswith(f"cannot listen on 127.0.0.1:{taken}: another process does")
        assert running.fetch() == ["old"]
