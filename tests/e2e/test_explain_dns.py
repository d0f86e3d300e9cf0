"""`penstock dns explain` and `penstock service-discovery lookup`: what every view gets, and why."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import PenstockProcess, free_port
from support.dig import dig

CONFIGURATION = """\
network:
  vpc: {name: app, cidr: 10.0.0.0/16, region: us-west}
  subnets: [{name: app-a, cidr: 10.0.1.0/24, zone: a}, {name: app-b, cidr: 10.0.2.0/24, zone: b}]
service_discovery:
  namespaces:
    - name: services
      services:
        - name: api
          routing_policy: weighted
          zone_affinity: true
          instances:
            - {id: i-1, ip: 10.0.1.10, port: 80, weight: 3}
            - {id: i-2, ip: 10.0.1.11, port: 80, weight: 1}
            - {id: i-3, ip: 10.0.2.10, port: 80, weight: 1}
            - {id: i-4, ip: 10.0.2.11, port: 80, weight: 0}
      records: [{name: www, type: CNAME, value: api}]
dns:
  listen: 127.0.0.1:8053
  networks: [{name: app, namespaces: [services]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIGURATION)
    return path


def penstock(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.control", *arguments, "--config", file.name]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=file.parent)


def test_a_client_is_told_what_its_view_is_and_who_was_left_out(file: Path) -> None:
    done = penstock(file, "dns", "explain", "www.services", "A", "--client", "10.0.1.9")
    assert done.returncode == 0, done.stderr
    assert [line.split(None, 1) for line in done.stdout.splitlines()] == [
        ["asked", "www.services A"],
        ["view", "app-a"],
        ["alias", "of  api.services"],
        ["is", "a service in services"],
        ["policy", "weighted, fail_open when nobody is healthy"],
        ["instance", "i-1 10.0.1.10 port 80 weight 3 healthy in a us-west, first in 0.75 of all"],
        ["instance", "i-2 10.0.1.11 port 80 weight 1 healthy in a us-west, first in 0.25 of all"],
        ["instance", "i-3 10.0.2.10 port 80 weight 1 healthy in b us-west, left out: in another zone"],
        [
            "instance",
            "i-4 10.0.2.11 port 80 weight 0 healthy in b us-west, left out: standby, weight 0",
        ],
        ["answer", "www.services. 60 IN CNAME api.services."],
        ["answer", "api.services. 60 IN A 10.0.1.10"],
        ["answer", "api.services. 60 IN A 10.0.1.11"],
    ]


def test_lookup_shows_every_view(file: Path) -> None:
    done = penstock(file, "service-discovery", "lookup", "api.services", "--json")
    assert done.returncode == 0, done.stderr
    views = {report["network"]: report for report in json.loads(done.stdout)}
    first = {
        name: [candidate["id"] for candidate in report["candidates"] if candidate["share"]]
        for name, report in views.items()
    }
    assert first == {"app": ["i-1", "i-2", "i-3"], "app-a": ["i-1", "i-2"], "app-b": ["i-3"], "everybody else": []}
    assert views["everybody else"]["kind"] == "not ours"
    assert "asked of the resolvers" in penstock(file, "service-discovery", "lookup", "api.services").stdout


@pytest.mark.parametrize(
    ("name", "client", "refused"),
    [
        ("www.services", "192.0.2.1", "dns.allow does not have 192.0.2.1"),
        ("example.org", "10.0.1.9", "not our name, and nobody is asked for it"),
        ("a.example.net", "203.0.113.9", "not our name, and 203.0.113.9 is not forwarded for"),
        ("a.example.net", "10.0.1.9", ""),
    ],
)
def test_who_is_refused_is_told_why(file: Path, name: str, client: str, refused: str) -> None:
    more = "  forward: [{zone: example.net, resolvers: 192.0.2.53}]\n  allow: [10.0.0.0/8, 203.0.113.0/24]\n"
    file.write_text(file.read_text().replace("dns:\n", f"dns:\n{more}", 1))
    [report] = json.loads(penstock(file, "dns", "explain", name, "--client", client, "--json").stdout)
    assert report["refused"] == refused
    assert (report["rcode"], report["answers"]) == ("REFUSED" if refused else "not ours", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dns", "explain", "a..b"], "a label of a DNS name is empty"),
        (["dns", "explain", "a.example", "MX"], "MX is no type that is explained"),
        (["dns", "explain", "a.example", "--client", "here"], "here is no address such as 203.0.113.9"),
    ],
)
def test_what_cannot_be_explained_is_said(file: Path, arguments: list[str], said: str) -> None:
    done = penstock(file, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


UNHEALTHY = """\
service_discovery:
  namespaces:
    - name: services
      services:
        - name: api
          all_unhealthy: fail_closed
          health_check: {{protocol: TCP, interval: 5s, timeout: 1s, unhealthy_threshold: 1}}
          instances: [{{id: i-1, ip: 127.0.0.1, port: {closed}}}]
dns: {{listen: "127.0.0.1:{dns}"}}
admin: {{listen: "{admin}"}}
workers: {workers}
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_process_knows_the_health(tmp_path: Path, workers: int) -> None:
    file, admin, port = tmp_path / "penstock.yaml", f"127.0.0.1:{free_port()}", free_port()
    file.write_text(UNHEALTHY.format(closed=free_port(), dns=port, admin=admin, workers=workers))
    with PenstockProcess(file, admin=admin):
        deadline = time.monotonic() + 20
        while dig(port, "api.services", "A").answer:
            assert time.monotonic() < deadline, "the port that nobody listens at is still healthy"
            time.sleep(0.05)
        command = [sys.executable, "-m", "penstock.control", "service-discovery", "lookup", "api.services"]
        done = subprocess.run(
            [*command, "--admin", admin], capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert "view      everybody" in done.stdout
    assert "unhealthy, left out: unhealthy" in done.stdout
    assert "answer    no data" in done.stdout
    gone = subprocess.run([*command, "--admin", admin], capture_output=True, text=True, timeout=20, check=False)
    assert (gone.returncode, gone.stdout) == (4, "")
