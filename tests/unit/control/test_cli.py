"""The commands that end by themselves: what they print, where, and with which exit code. `run` is tested end to end."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from penstock.control.admin.table import show
from penstock.control.cli import app
from penstock.control.version import VERSION
from support import Origin, free_port, response, serving

GOOD = """\
load_balancer:
  name: lb
  listeners: [{port: 8080, address: 127.0.0.1, protocol: HTTP}]
  target_groups: [{name: tg-web, targets: [{ip: 192.0.2.1, port: 80}, {ip: 192.0.2.2, port: 80}]}]
"""

STATUS = {
    "version": "1.2.3",
    "process_id": 7,
    "phase": "ready",
    "uptime_seconds": 3723.4,
    "configuration": {"applied_at": "2026-11-20T08:00:00Z", "reloads": {}, "last_reload": None},
    "listeners": [
        {
            "bound": "127.0.0.1:8080",
            "protocol": "HTTP",
            "load_balancer": "lb",
            "connections_active": 1,
            "connections": 22,
            "requests": 333,
            "denied": {"sg:web-sg/ingress/default": 4, "acl:a/inbound/*": 1},
        }
    ],
    "target_groups": [
        {
            "target_group": "tg-web",
            "targets": [
                {
                    "target": "192.0.2.1:80",
                    "weight": 1,
                    "health": {"state": "unhealthy", "description": "Request timed out."},
                    "in_flight": 6,
                    "requests": 55,
                    "failed": {"connect_refused": 9},
                }
            ],
        }
    ],
    "dns": {
        "services": [
            {
                "names": ["web.services", "web.services.app.local"],
                "records": {"A": 60, "SRV": 60},
                "policy": "weighted",
                "instances": [{"healthy": False}, {"healthy": True}],
            }
        ]
    },
}


def penstock(*arguments: str | Path) -> Result:
    """Log handlers are put back: `run` sets up one for a standard error that is closed when the command has ended."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return CliRunner().invoke(app, list(map(str, arguments)))
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def answering(body: object) -> Iterator[str]:
    origin = Origin(response(json.dumps(body).encode()))
    with serving(origin):
        yield f"127.0.0.1:{origin.port}"


def test_check_of_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    file.write_text(GOOD)
    result = penstock("check", file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{file}: no mistakes; 1 listener, 1 target group, 2 targets, 0 DNS services\n"


def test_check_prints_every_mistake_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    file.write_text(GOOD.replace("8080", "80800").replace("tg-web", "tg web") + "securty: {}\n")
    result = penstock("check", file)
    assert (result.exit_code, result.stdout) == (1, "")
    *mistakes, last = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in mistakes] == [
        "load_balancer.listeners[0].port",
        "load_balancer.target_groups[0].name",
        "securty",
    ]
    assert all(line.startswith(f"{file}:") for line in mistakes)
    assert last == f"penstock: 3 mistakes in {file}"


def test_check_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "penstock.yaml"
    source = GOOD.replace("protocol: HTTP}", "protocol: HTTPS, certificate: dev}")
    file.write_text(source + "certificates: [{name: dev, self_signed: [localhost]}]\n")
    assert penstock("check", file).exit_code == 0
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_cannot_be_read(tmp_path: Path, command: str) -> None:
    result = penstock(command, tmp_path / "nowhere.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"penstock: {tmp_path}/nowhere.yaml cannot be read: No such file or directory\n"


@pytest.mark.parametrize("arguments", [["check"], ["chekc"], ["run", "--no-such-option", "f"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = penstock(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_schema_is_json_schema() -> None:
    result = penstock("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert schema["type"] == "object"
    assert "load_balancer" in schema["properties"]


def test_version() -> None:
    assert penstock("--version").stdout == f"penstock {VERSION}\n"


def test_status_when_nothing_runs() -> None:
    address = f"127.0.0.1:{free_port()}"
    result = penstock("status", "--admin", address)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith(f"penstock: nothing listens on {address}: is penstock running")
    assert len(result.stderr.splitlines()) == 1


def test_status_as_json_is_what_the_process_says() -> None:
    with answering(STATUS) as address:
        result = penstock("status", "--admin", address, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, STATUS)


def test_status_as_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    show(STATUS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines[0]) == "Penstock 1.2.3, process 7, ready, up 1:02:03"
    assert ["127.0.0.1:8080", "HTTP", "lb", "1", "22", "333", "5"] in lines
    assert ["tg-web", "192.0.2.1:80", "1", "unhealthy", "Request", "timed", "out.", "6", "55", "9"] in lines
    assert ["web.services", "A", "60s,", "SRV", "60s", "weighted", "1", "of", "2", "healthy"] in lines
    assert ["web.services.app.local"] in lines


def test_status_shows_workers(capsys: pytest.CaptureFixture[str]) -> None:
    workers = [
        {"worker": 0, "process_id": 8, "up": True, "restarts": 0, "cpu_seconds": 1.25, "resident_bytes": 3 << 20,
         "connections": 4},
        {"worker": 1, "process_id": 9, "up": False, "restarts": 2, "cpu_seconds": 0, "resident_bytes": 0,
         "connections": 0},
    ]  # fmt: skip
    show({**STATUS, "workers": workers})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["0", "8", "up", "4", "1.2", "3", "MiB", "0"] in lines
    assert ["1", "9", "down", "0", "0.0", "0", "MiB", "2"] in lines


def test_status_shows_that_clients_are_turned_away(capsys: pytest.CaptureFixture[str]) -> None:
    for out, shown in ((True, True), (False, False)):
        show({**STATUS, "limits": {"out_of_descriptors": out}})
        assert ("Out of file descriptors: new clients are turned away" in capsys.readouterr().out) == shown


def test_status_shows_why_a_reload_was_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    """Text from a configuration is text: square brackets in it are not rich's markup. And a mistake is one line."""
    message = f"f.yaml:1:2: load_balancer.listeners[0].port: must be from 1 to 65535, not [red]{' and so on' * 20}"
    last = {"at": "2026-11-20T09:00:00Z", "why": "SIGHUP", "result": "rejected", "messages": [message]}
    configuration = {"applied_at": "2026-11-20T08:00:00Z", "reloads": {}, "last_reload": last}
    show({**STATUS, "configuration": configuration})
    lines = capsys.readouterr().out.splitlines()
    reload = lines.index("Configuration of 2026-11-20T08:00:00Z: the reload at 2026-11-20T09:00:00Z was rejected")
    assert lines[reload + 1] == f"  {message}"


def test_status_in_a_pipe_wraps_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show(STATUS)
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tg-web", "192.0.2.1:80", "1", "unhealthy", "Request", "timed", "out.", "6", "55", "9"] in words


def test_status_imports_neither_the_planes_nor_a_web_framework() -> None:
    """Commands that do little are there at once."""
    heavy = ("aiohttp", "prometheus_client", "cryptography", "uvloop", "penstock.proxy", "penstock.dns")
    code = (
        "import sys; from typer.testing import CliRunner; from penstock.control.cli import app;"
        "assert CliRunner().invoke(app, ['status', '--admin', '127.0.0.1:1']).exit_code == 4;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "[]\n"
