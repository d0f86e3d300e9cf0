"""A target whose health check passes while its requests fail: Penstock leaves it out, and says so where people look."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from support import Exchange, Origin, PenstockProcess, response, serving
from support.configuration import Ports, text

# An unused group beside it: AWS's state for targets that nobody is sent to.
IDLE_PORT = 9
UNUSED = f"""
load_balancers: [{{name: idle, target_groups: [{{name: tg-idle, targets: [{{ip: 127.0.0.1, port: {IDLE_PORT}}}]}}]}}]
"""


async def broken(exchange: Exchange) -> None:
    """A healthy front on an application that cannot reach its database."""
    status = 200 if exchange.request.target == b"/health" else 500
    exchange.writer.write(response(b"broken", status=status))


async def works(exchange: Exchange) -> None:
    exchange.writer.write(response(b"works"))


def status_of(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def health_of(penstock: PenstockProcess) -> dict[str, dict[str, Any]]:
    groups = penstock.status()["target_groups"]
    return {target["target"]: target["health"] for group in groups for target in group["targets"]}


def test_a_target_that_fails_requests_is_left_out(tmp_path: Path) -> None:
    first, second, bad = Origin(works), Origin(works), Origin(broken)
    with serving(first, second, bad):
        ports = Ports()
        group = ", outlier_detection: {consecutive_failures: 3}"
        config = tmp_path / "penstock.yaml"
        config.write_text(text(ports, first.port, second.port, bad.port, group=group, extra=UNUSED))
        with PenstockProcess(config, admin=f"127.0.0.1:{ports.admin}") as penstock:
            key = f"127.0.0.1:{bad.port}"
            url = f"http://127.0.0.1:{ports.http}/"
            deadline = time.monotonic() + 15
            while health_of(penstock)[key]["reason"] != "Target.Ejected":
                assert time.monotonic() < deadline, health_of(penstock)
                status_of(url)
            health = health_of(penstock)
            assert health[key]["state"] == "unhealthy"
            assert health[key]["description"].startswith("Ejected for 30 seconds: ")
            assert [status_of(url) for _ in range(10)] == [200] * 10
            idle = health[f"127.0.0.1:{IDLE_PORT}"]
            assert (idle["state"], idle["reason"]) == ("unused", "Target.NotInUse")
            metrics = penstock.get("/metrics")[1].decode()
            labels = f'target="{key}",target_group="tg-web"'
            assert f"penstock_target_ejections_total{{{labels}}} 1.0" in metrics
            assert f"penstock_target_healthy{{{labels}}} 0.0" in metrics
            assert f"target {key} of tg-web: Ejected for 30 seconds" in penstock.output()
