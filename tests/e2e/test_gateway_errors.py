"""When no answer can be had: 502, 503 and 504 each mean what they say, and the access log has the reason."""

from __future__ import annotations

import json
import socket
import threading
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


# Path, what the target does, status for the client, reason in the log.
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
    replies = {
        "/closed": Origin(leave),
        "/reset": Origin(reset),
        "/nonsense": Origin(b"SSH-2.0-OpenSSH_9.2\r\n"),
        "/endless": Origin(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000),
    }
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
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
            # The one that takes five seconds waits beside the others.
            told: dict[str, str] = {}

            def ask(path: str) -> None:
                url = f"http://127.0.0.1:{port}{path}"
                told[path] = curl("-o", "/dev/null", "-w", "%{http_code}", url).text

            if log == "json":
                slow = threading.Thread(target=ask, args=("/deaf",))
                slow.start()
            for path in CASES:
                if path != "/deaf":
                    ask(path)
            if log == "json":
                slow.join()
            assert told == {path: status for path, (status, _) in CASES.items() if path in told}
            failed = penstock.status()["listeners"][0]["failed"]
            assert set(failed) == {reason for path, (_, reason) in CASES.items() if path in told}
        lines = (tmp_path / "access.log").read_text().splitlines()
    assert len(lines) == len(told)
    if log == "json":
        logged = {entry["uri"]: (str(entry["status"]), entry["reason"]) for entry in map(json.loads, lines)}
        assert logged == CASES
        assert all("target_status" not in json.loads(line) for line in lines), "no target had one"
    else:
        for path, (status, reason) in CASES.items():
            if path in told:
                (line,) = (line for line in lines if f":{port}{path} " in line)
                assert f" {status} - " in line
                assert f'"{reason}"' in line


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
