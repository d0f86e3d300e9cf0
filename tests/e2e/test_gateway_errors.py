"""When no answer can be had: 502, 503 and 504 each mean what they say, and the access log has the reason."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from support import Exchange, Origin, PenstockProcess, free_port, reset, response, serving
from support.curl import curl


async def leave(exchange: Exchange) -> None:
    exchange.writer.close()


async def cut_short(exchange: Exchange) -> None:
    exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
    await exchange.writer.drain()
    exchange.writer.close()


def deaf(stack: ExitStack) -> int:
    """A port whose queue of connections is full: another one is neither accepted nor refused."""
    listening = stack.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(4):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listening.getsockname())
    return listening.getsockname()[1]


# What a target does, as the path that leads to it; the client's status, and the log's reason.
CASES = {
    "/refused": ("502", "connect_failed"),
    "/closed": ("502", "target_closed"),
    "/reset": ("502", "target_closed"),
    "/nonsense": ("502", "target_bad_status_line"),
    "/endless": ("502", "target_head_too_long"),
    "/nobody": ("503", "no_target"),
    "/deaf": ("504", "connect_timeout"),
}


@pytest.mark.parametrize("log", ["json", "alb"])
def test_each_has_its_status_and_its_reason(tmp_path: Path, log: str) -> None:
    cases = dict(CASES)
    if log == "alb":
        del cases["/deaf"]  # once is enough: it takes as long as our patience with a target that is silent
    replies = {
        "/closed": Origin(leave),
        "/reset": Origin(reset),
        "/nonsense": Origin(b"SSH-2.0-OpenSSH_9.2\r\n"),
        "/endless": Origin(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000),
    }
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    told: dict[str, str] = {}

    def ask(path: str) -> None:
        told[path] = curl("-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}{path}").text

    with ExitStack() as stack:
        stack.enter_context(serving(*replies.values()))
        targets = {path: origin.port for path, origin in replies.items()}
        targets |= {"/refused": free_port(), "/deaf": deaf(stack)}
        rules = "".join(
            f"        - {{priority: {number}, conditions: {{path: [{path}]}}, action: {{forward: tg-{path[1:]}}}}}\n"
            for number, path in enumerate(CASES, 1)
        )
        groups = "".join(
            f"    - {{name: tg-{path[1:]}, targets: [{{ip: 127.0.0.1, port: {targets[path]}}}]}}\n" for path in targets
        )
        file = tmp_path / "penstock.yaml"
        file.write_text(f"""\
load_balancer:
  name: lb
  listeners:
    - port: {port}
      address: 127.0.0.1
      protocol: HTTP
      default_action: {{fixed_response: {{status: 404}}}}
      rules:
{rules}
  target_groups:
    - {{name: tg-nobody}}
{groups}
admin: {{listen: "{admin}"}}
access_log: {{file: access.log, format: {log}}}
""")
        with PenstockProcess(file, admin=admin) as penstock:
            clients = [threading.Thread(target=ask, args=(path,)) for path in cases]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            failed = penstock.status()["listeners"][0]["failed"]
    assert told == {path: status for path, (status, _) in cases.items()}
    assert failed == Counter(reason for _, reason in cases.values())
    lines = (tmp_path / "access.log").read_text().splitlines()
    logged = dict(map(from_json if log == "json" else from_alb, lines))
    assert logged == {path: (status, None, reason) for path, (status, reason) in cases.items()}
    assert len(lines) == len(cases)


def from_json(line: str) -> tuple[str, tuple[str, str | None, str]]:
    """Path, status, the target's status if it had one, reason."""
    entry = json.loads(line)
    return entry["uri"], (str(entry["status"]), entry.get("target_status"), entry["reason"])


def from_alb(line: str) -> tuple[str, tuple[str, str | None, str]]:
    fields = re.findall(r'"[^"]*"|\S+', line)
    status, target_status, request, reason = (fields[number] for number in (8, 9, 12, 24))
    path = "/" + request.split(" ")[1].rpartition("/")[2]
    return path, (status, None if target_status == "-" else target_status, reason.strip('"'))


def test_an_answer_cut_short_is_seen_by_the_client_and_logged(tmp_path: Path) -> None:
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    origin = Origin(cut_short, response(b"whole"))
    with serving(origin):
        file = tmp_path / "penstock.yaml"
        file.write_text(f"""\
load_balancer:
  name: lb
  listeners: [{{port: {port}, address: 127.0.0.1, protocol: HTTP}}]
  target_groups: [{{name: tg, targets: [{{ip: 127.0.0.1, port: {origin.port}}}]}}]
admin: {{listen: "{admin}"}}
access_log: {{file: access.log}}
""")
        with PenstockProcess(file, admin=admin):
            short = curl(f"http://127.0.0.1:{port}/", code=18)  # "partial file"
            assert short.body == b"only this"
            assert curl(f"http://127.0.0.1:{port}/").body == b"whole"
    first, second = map(json.loads, (tmp_path / "access.log").read_text().splitlines())
    assert (first["status"], first["target_status"], first["reason"]) == (200, 200, "target_closed")
    assert "reason" not in second
