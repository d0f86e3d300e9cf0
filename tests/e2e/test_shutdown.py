"""How a process leaves while clients are still sent to it, and what long connections see of reloads before that."""

from __future__ import annotations

import re
import signal
import socket
import time
from pathlib import Path

import pytest

from support import Origin, PenstockProcess, response, serving
from support.configuration import Ports, text
from support.websocket import CLOSE, TEXT, Client, Frame, echo_frames

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answer_to(connection: socket.socket) -> bytes:
    """One answer of `hello`, or what came of it."""
    connection.sendall(GET)
    received = b""
    while not received.endswith(b"hello") and (piece := connection.recv(4096)):
        received += piece
    return received


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_says_so_first_goes_on_accepting_and_then_drains(tmp_path: Path, workers: int) -> None:
    """As a rolling deploy sees it: from SIGTERM to the end no connection is refused while it may still be sent here."""
    ports, origin = Ports(), Origin(response(b"hello"))
    with serving(origin):
        file = tmp_path / "penstock.yaml"
        file.write_text(text(ports, origin.port, grace="1s", drain="10s", extra=f"workers: {workers}"))
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as penstock:
            kept = socket.create_connection(("127.0.0.1", ports.http), timeout=10)
            assert b"connection: close" not in answer_to(kept).lower()
            began = time.monotonic()
            penstock.signal(signal.SIGTERM)
            while penstock.get("/readyz") != (503, b"draining\n"):
                time.sleep(0.01)
            with kept:
                while b"\r\nconnection: close\r\n" not in answer_to(kept).lower():  # workers hear of it a moment later
                    time.sleep(0.01)
                assert kept.recv(1) == b"", "the client is told to come back elsewhere"
            refused = 0.0
            answers: list[bytes] = []
            while not refused:
                try:
                    with socket.create_connection(("127.0.0.1", ports.http), timeout=10) as connection:
                        answers.append(answer_to(connection))
                except ConnectionRefusedError:
                    refused = time.monotonic()
                except ConnectionResetError:
                    pass  # it was in the queue when the listener closed
                time.sleep(0.01)
            assert refused - began >= 0.9, "the grace was kept"
            assert len(answers) > 5
            assert all(answer.endswith(b"hello") for answer in answers[:-1])
            assert penstock.wait(10) == 0
            assert re.search(
                r"SIGTERM: no longer ready, accepting for 1 s more\n(.*\n)*.* draining\n", penstock.output()
            )


def test_an_interrupt_knows_no_grace(tmp_path: Path) -> None:
    ports = Ports()
    file = tmp_path / "penstock.yaml"
    file.write_text(text(ports, 9, grace="1h"))
    with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as penstock:
        penstock.signal(signal.SIGINT)
        assert penstock.wait(10) == 0


def test_a_second_signal_ends_the_grace_too(tmp_path: Path) -> None:
    ports = Ports()
    file = tmp_path / "penstock.yaml"
    file.write_text(text(ports, 9, grace="1h"))

    def signal_twice() -> None:
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as penstock:
            penstock.signal(signal.SIGTERM)
            while penstock.get("/readyz")[0] != 503:
                time.sleep(0.01)
            penstock.signal(signal.SIGTERM)
            penstock.wait(5)

    with pytest.raises(AssertionError, match="exit code 143"):
        signal_twice()


def test_a_websocket_lives_through_reloads_of_everything_but_its_target(tmp_path: Path) -> None:
    ports, origin, other = Ports(), Origin(echo_frames), Origin(response(b"other"))
    with serving(origin, other):
        file = tmp_path / "penstock.yaml"
        file.write_text(text(ports, origin.port))
        with (
            PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}", arguments=["run", "--no-watch"]) as penstock,
            socket.create_connection(("127.0.0.1", ports.http), timeout=10) as connection,
        ):
            client = Client(connection, host="ws.example.org")
            for number in range(1, 6):
                # Targets join and leave, weights change, and the listener itself has another rule each time.
                rule = f"rules: [{{priority: {number}, conditions: {{path: /x}}, action: {{forward: tg-web}}}}]"
                source = text(ports, origin.port, *[other.port][: number % 2], weight=number)
                file.write_text(source.replace("{forward: tg-web}}", f"{{forward: tg-web}}, {rule}}}"))
                penstock.signal(signal.SIGHUP)
                deadline = time.monotonic() + 10
                while penstock.status()["configuration"]["reloads"]["applied"] < number:
                    assert time.monotonic() < deadline, penstock.output()
                    time.sleep(0.01)
                client.send(TEXT, b"still here")
                assert client.receive() == Frame(TEXT, True, b"still here", masked=False)
            (listener,) = penstock.status()["listeners"]
            assert listener["connections"] == 1
            client.send(CLOSE, (1000).to_bytes(2))
            assert client.receive().opcode == CLOSE
