"""A running process whose file changes: under load nothing is lost, and a bad file changes nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from support import Origin, PenstockProcess, need_tool, response, serving
from support.configuration import Ports, text

CONNECTIONS = 64
RELOADS = 20


def fetch(port: int, path: str = "/") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read()


def reloads(penstock: PenstockProcess, outcome: str) -> int:
    return penstock.status()["configuration"]["reloads"][outcome]


def wait_for(penstock: PenstockProcess, outcome: str, count: int) -> None:
    deadline = time.monotonic() + 10
    while reloads(penstock, outcome) < count:
        assert time.monotonic() < deadline, penstock.output()
        time.sleep(0.02)


def variant(ports: Ports, number: int, origins: list[Origin]) -> str:
    """The `number`th configuration: every one differs from the one before in weights, rules and targets."""
    left_out = number % len(origins)
    targets = [origin.port for index, origin in enumerate(origins) if index != left_out]
    source = text(ports, *targets, weight=1 + number % 7, interval=0.2)
    extra = f"    - {{name: tg-other, targets: [{{ip: 127.0.0.1, port: {targets[0]}, weight: {number + 1}}}]}}\n"
    source = source.replace("service_discovery:", f"{extra}service_discovery:")
    forward = f"[{{target_group: tg-web, weight: {number + 1}}}, {{target_group: tg-other, weight: 1}}]"
    rules = (
        f"[{{priority: {number + 1}, conditions: {{path: [/{number}]}}, action: {{fixed_response: {{status: 200}}}}}}, "
        f"{{priority: 1000, conditions: {{path: ['/*']}}, action: {{forward: {forward}}}}}]"
    )
    return source.replace("{forward: tg-web}}", f"{{forward: tg-web}}, rules: {rules}}}")


def test_twenty_reloads_under_load_lose_no_request_and_reset_no_connection(tmp_path: Path) -> None:
    wrk = need_tool("wrk", package="wrk")
    ports = Ports()
    origins = [Origin(response(b"one")), Origin(response(b"two")), Origin(response(b"three"))]
    with serving(*origins):
        file = tmp_path / "penstock.yaml"
        file.write_text(variant(ports, 0, origins))
        arguments = ["run", "--no-watch"]  # each reload is asked for, so that there are exactly as many
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}", arguments=arguments) as penstock:
            command = [wrk, "-t1", f"-c{CONNECTIONS}", "-d60s", f"http://127.0.0.1:{ports.http}/"]
            load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                time.sleep(0.5)
                for number in range(1, RELOADS + 1):
                    file.write_text(variant(ports, number, origins))
                    penstock.signal(signal.SIGHUP)
                    wait_for(penstock, "applied", number)
                    time.sleep(0.1)
                assert load.poll() is None, "the load ended before the last reload"
                load.send_signal(signal.SIGINT)  # wrk ends, and tells what it saw
                printed, _ = load.communicate(timeout=30)
            finally:
                load.kill()
                load.communicate()
            (listener,) = penstock.status()["listeners"]
    done = re.search(r"(\d+) requests in", printed)
    assert done is not None, printed
    assert int(done[1]) > 1000
    assert "Non-2xx" not in printed, printed
    assert "Socket errors" not in printed, printed
    assert listener["connections"] == CONNECTIONS + 1, "opened once each, and one by wrk to see whether it can"
    assert all(origin.requests for origin in origins)


def test_a_changed_file_is_noticed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    ports, old, new = Ports(), Origin(response(b"old")), Origin(response(b"new"))
    with serving(old, new):
        file = tmp_path / "penstock.yaml"
        file.write_text(text(ports, old.port))
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as penstock:
            file.write_text(text(ports, new.port, weight=1000) + "listners: []\n")
            wait_for(penstock, "rejected", 1)
            assert fetch(ports.http) == b"old"
            last = penstock.status()["configuration"]["last_reload"]
            assert [message.split(": ")[1] for message in last["messages"]] == [
                "load_balancer.target_groups[0].targets[0].weight",
                "listners",
            ]
            for message in last["messages"]:
                assert message in penstock.output()
            metrics = penstock.get("/metrics")[1]
            assert b"\npenstock_config_last_reload_successful 0.0\n" in metrics
            assert penstock.get("/readyz")[0] == 200
            file.write_text(text(ports, new.port))
            wait_for(penstock, "applied", 1)
            assert fetch(ports.http) == b"new"
            assert b"\npenstock_config_last_reload_successful 1.0\n" in penstock.get("/metrics")[1]
            penstock.signal(signal.SIGHUP)
            wait_for(penstock, "unchanged", 1)


def test_health_survives_a_reload(tmp_path: Path) -> None:
    """A target that is known to be down is not tried again because a weight changed elsewhere."""
    ports, good, bad = Ports(), Origin(response(b"good")), Origin(response(b"bad", status=500))
    with serving(good, bad):
        file = tmp_path / "penstock.yaml"
        file.write_text(text(ports, good.port, bad.port))
        with PenstockProcess(file, admin=f"127.0.0.1:{ports.admin}") as penstock:

            def states() -> list[str]:
                (group,) = penstock.status()["target_groups"]
                return [target["health"]["state"] for target in group["targets"]]

            while states() != ["healthy", "unhealthy"]:
                time.sleep(0.02)
            file.write_text(text(ports, good.port, bad.port, weight=5))
            penstock.signal(signal.SIGHUP)
            wait_for(penstock, "applied", 1)
            assert states() == ["healthy", "unhealthy"]
            assert {fetch(ports.http) for _ in range(20)} == {b"good"}
