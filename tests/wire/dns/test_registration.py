"""Instances that register over HTTP, as dig and those who discover see them: in one process, and in two workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import Exchange, Origin, PenstockProcess, free_port, response, serving
from support.dig import dig

pytestmark = pytest.mark.timeout(150)  # interpreters begin, on a machine that may be busy

SERVICES = """\
network:
  vpc: {name: app-network, cidr: 10.0.0.0/16, region: us-west}
  subnets: [{name: a, cidr: 10.0.1.0/24, zone: us-west-1a}]
service_discovery:
  namespaces:
    - name: services
      ttl: 7s
      services:
        - {name: api}
        - {name: closed, all_unhealthy: fail_closed}
        - {name: listed, all_unhealthy: fail_closed, instances: [{id: i-1, ip: 192.0.2.1}]}
        - name: checked
          all_unhealthy: fail_closed
          health_check: {path: /health, interval: 0.1, unhealthy_threshold: 1}
        - {name: addresses, dns_records: [{type: A}]}
        - {name: ports, dns_records: [{type: SRV}]}
REGISTRATION
"""


@dataclass
class Site:
    penstock: PenstockProcess
    port: int
    file: Path
    workers: int

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        host, _, port = self.penstock.admin.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        try:
            content = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
            connection.request(method, f"/namespaces/services/services/{path}", content, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def register(self, service: str, name: str, **said: object) -> int:
        status, answer = self.ask("PUT", f"{service}/instances/{name}", said)
        assert status in (200, 201), answer
        return answer["instances_revision"]

    def find(self, service: str, query: str = "?health_status=ALL") -> dict[str, str]:
        """Health by id."""
        status, answer = self.ask("GET", f"{service}/instances{query}")
        assert status == 200, answer
        return {each["instance_id"]: each["health_status"] for each in answer["instances"]}

    def dig(self, name: str, rtype: str = "A") -> list[str]:
        """Of every worker at least once, as far as chance goes; they agree."""
        answers = [sorted(dig(self.port, f"{name}.services", rtype).data) for _ in range(1 if self.workers == 1 else 4)]
        assert all(each == answers[0] for each in answers), answers
        return answers[0]

    def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.penstock.output()
            time.sleep(0.01)


@contextmanager
def running(folder: Path, workers: int, registration: str = "") -> Iterator[Site]:
    file = folder / "penstock.yaml"
    if not file.exists():
        said = f"  registration: {registration}" if registration else ""
        source = SERVICES.replace("REGISTRATION", said)
        source += f"dns: {{listen: '127.0.0.1:{free_port()}'}}\nadmin: {{listen: '127.0.0.1:{free_port()}'}}\n"
        file.write_text(source + f"workers: {workers}\nshutdown: {{grace: 0s, drain: 1s}}\n")
    lines = file.read_text().splitlines()
    port, admin = (line.split("'")[1] for line in lines if "listen:" in line)
    with PenstockProcess(
        file, admin=admin, arguments=["run", "--no-watch"], ready_seconds=45.0, stop_seconds=30.0
    ) as penstock:
        yield Site(penstock, int(port.rpartition(":")[2]), file, workers)


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("registration"), request.param) as site:
        yield site


def test_it_comes_changes_and_goes(site: Site) -> None:
    assert dig(site.port, "api.services", "A").status == "NOERROR"
    assert site.dig("api") == []
    status, _ = site.ask("PUT", "api/instances/i-1", {"ip": "10.0.1.5", "port": 8080, "attributes": {"color": "blue"}})
    assert status == 201
    assert site.dig("api") == ["10.0.1.5"]
    assert site.dig("api", "SRV") == ["1 1 8080 i-1.api.services."]
    assert site.dig("i-1.api", "TXT") == ['"color=blue"']
    status, answer = site.ask("GET", "api/instances")
    assert status == 200
    (found,) = answer["instances"]
    assert found == {
        "instance_id": "i-1", "health_status": "HEALTHY", "ip": "10.0.1.5", "port": 8080, "weight": 1,
        "attributes": {"color": "blue"}, "zone": "us-west-1a", "region": "us-west", "location": "",
        "failover": "primary", "registered": True, "custom_health_status": None,
    }  # fmt: skip
    status, _ = site.ask("PUT", "api/instances/I-1", {"ip": "10.0.1.6", "port": 8081})  # the same: names have no case
    assert status == 200
    assert site.dig("api") == ["10.0.1.6"]
    assert site.dig("i-1.api", "TXT") == []
    site.register("api", "i-6", ip="2001:db8::6", port=8080)
    site.register("api", "i-7", ip="10.0.1.7")
    assert site.dig("api", "AAAA") == ["2001:db8::6"]
    assert len(site.dig("api", "SRV")) == 2  # one has no port
    for name in ("i-1", "i-6", "i-7"):
        assert site.ask("DELETE", f"api/instances/{name}") == (200, {"drain_seconds": 7})
        assert name not in site.find("api")
    assert site.dig("api") == []
    assert dig(site.port, "i-1.api.services", "A").status == "NXDOMAIN"


def test_the_operators_word_on_those_who_registered_and_on_those_listed(site: Site) -> None:
    site.register("closed", "i-1", ip="192.0.2.1")
    for service in ("closed", "listed"):
        for status, answered in (
            ("UNHEALTHY", []),
            ("HEALTHY", ["192.0.2.1"]),
            ("UNHEALTHY", []),
            ("AUTO", ["192.0.2.1"]),
        ):
            assert site.ask("PUT", f"{service}/instances/i-1/health", {"status": status}) == (200, {})
            assert site.dig(service) == answered
            assert site.find(service) == {"i-1": "HEALTHY" if answered else "UNHEALTHY"}
    site.register("closed", "i-2", ip="192.0.2.2", init_health_status="UNHEALTHY")
    assert site.dig("closed") == ["192.0.2.1"]
    for name in ("i-1", "i-2"):
        site.ask("DELETE", f"closed/instances/{name}")


def test_heartbeats(site: Site) -> None:
    def beats() -> bool:
        return (
            site.ask("PUT", "closed/instances/i-2/heartbeat") == (200, {}) and site.find("closed")["i-2"] == "HEALTHY"
        )

    site.register("closed", "i-1", ip="192.0.2.1", heartbeat_ttl="1s", deregister_after="1s")
    site.register("closed", "i-2", ip="192.0.2.2", heartbeat_ttl=1, deregister_after="1h")
    site.until(lambda: site.find("closed") == {"i-1": "UNHEALTHY", "i-2": "UNHEALTHY"})
    assert site.dig("closed") == []
    site.until(beats)
    site.until(lambda: "i-1" not in site.find("closed"))
    assert site.ask("PUT", "closed/instances/i-1/heartbeat")[0] == 404  # so that it registers anew
    site.register("closed", "i-2", ip="192.0.2.2", heartbeat_ttl="1h")
    assert site.dig("closed") == ["192.0.2.2"]
    site.ask("DELETE", "closed/instances/i-2")


def test_checks_of_the_services_own(site: Site) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.writer.write(response(b"", status=200 if alive.is_set() else 503))

    alive = threading.Event()
    alive.set()
    origin = Origin(answer)
    with serving(origin):
        site.register("checked", "i-1", ip="127.0.0.1", port=origin.port)
        site.until(lambda: site.find("checked") == {"i-1": "HEALTHY"})
        assert site.dig("checked") == ["127.0.0.1"]
        alive.clear()
        site.until(lambda: site.find("checked") == {"i-1": "UNHEALTHY"})
        assert site.dig("checked") == []
        site.ask("DELETE", "checked/instances/i-1")
        assert site.find("checked") == {}


def test_who_waits_hears_of_a_change_of_health_too(site: Site) -> None:
    revision = site.register("closed", "i-1", ip="192.0.2.1")
    heard: list[tuple[int, dict[str, Any]]] = []
    path = f"closed/instances?wait=30s&revision={revision}"
    waiting = threading.Thread(target=lambda: heard.append(site.ask("GET", path)))
    waiting.start()
    site.register("api", "i-9", ip="192.0.2.9")  # another service: not what is waited for
    waiting.join(0.2)
    assert not heard
    site.ask("PUT", "closed/instances/i-1/health", {"status": "UNHEALTHY"})
    waiting.join(10)
    ((status, answer),) = heard
    assert status == 200
    assert answer["instances_revision"] > revision
    assert [each["health_status"] for each in answer["instances"]] == ["UNHEALTHY"]
    now = answer["instances_revision"]
    assert site.ask("GET", f"closed/instances?wait=50ms&revision={now}")[1]["instances_revision"] == now
    assert site.ask("GET", f"closed/instances?wait=30s&revision={now + 5}")[0] == 200  # not ours: there is news
    for path in ("closed/instances/i-1", "api/instances/i-9"):
        site.ask("DELETE", path)


def test_a_reload_keeps_what_has_registered(site: Site) -> None:
    site.register("closed", "i-1", ip="192.0.2.1")
    site.register("api", "i-2", ip="192.0.2.2", heartbeat_ttl="1h")
    site.ask("PUT", "listed/instances/i-1/health", {"status": "UNHEALTHY"})
    source = site.file.read_text()
    before = site.penstock.status()["configuration"]["reloads"]["applied"]
    for number, changed in enumerate((source.replace("ttl: 7s", "ttl: 8s"), source), 1):
        site.file.write_text(changed)
        site.penstock.signal(signal.SIGHUP)
        site.until(lambda n=number: site.penstock.status()["configuration"]["reloads"]["applied"] == before + n)
        assert (site.dig("closed"), site.dig("api"), site.dig("listed")) == (["192.0.2.1"], ["192.0.2.2"], [])
    site.ask("PUT", "listed/instances/i-1/health", {"status": "AUTO"})
    assert site.dig("listed") == ["192.0.2.1"]
    for path in ("closed/instances/i-1", "api/instances/i-2"):
        site.ask("DELETE", path)


KEYS = (
    "ip, port, weight, attributes, failover, zone, region, location, "
    "heartbeat_ttl, deregister_after, init_health_status"
)
AT_MOST = "attributes.a: has 1025 characters, at most 1024 are kept"
MANY = {str(number): "x" for number in range(31)}
HERE = {"ip": "192.0.2.1"}
MISTAKES = [
    ("PUT", "api/instances/i-1", {}, 400, ["ip: is missing and has no default"]),
    ("PUT", "api/instances/i-1", [], 400, ['the body must be a mapping, such as {"ip": "192.0.2.10", "port": 8080}']),
    ("PUT", "api/instances/i-1", b"{", 400, ["the body is no JSON"]),
    ("PUT", "api/instances/i-1", b"", 400, ["the body is no JSON"]),
    ("PUT", "api/instances/i-1", b"[" * 60_000, 400, ["the body is no JSON"]),
    ("PUT", "api/instances/i-1", b'{"ip": "192.0.2.1", "weight": NaN}', 400, ["the body is no JSON"]),
    (
        "PUT", "api/instances/a.b",
        {"ip": "192.0.2.300", "port": 0, "prot": 1, "weight": "3", "heartbeat_ttl": "10ms"}, 400,
        [
            'id: must be 1 to 63 letters, digits and inner hyphens, as it becomes part of a name, not "a.b"',
            'ip: must be an IPv4 or IPv6 address such as 192.0.2.10, not "192.0.2.300"',
            "port: must be from 1 to 65535, not 0",
            'weight: must be a whole number from 0 to 255, not "3": leave the quotes out',
            'heartbeat_ttl: must be from 1s to 3600s, not "10ms"',
            'prot: unknown key, did you mean "port"?',
        ],
    ),
    ("PUT", "api/instances/i-1", HERE | {"attributes": MANY}, 400, ["attributes: are 31, at most 30 are kept"]),
    (
        "PUT", "api/instances/i-1", HERE | {"attributes": {"a": "x" * 1025, "b": 1}}, 400,
        ["attributes.b: must be text, not the number 1: put it in quotes", AT_MOST],
    ),
    (
        "PUT", "api/instances/i-1", HERE | {"attributes": {str(n): "x" * 1000 for n in range(6)}}, 400,
        ["attributes: have 6006 characters in all, at most 5000 are kept"],
    ),
    (
        "PUT", "api/instances/i-1", HERE | {"namespace": "services", "self": 1}, 400,
        [f"{key}: unknown key, the keys are {KEYS}" for key in ("namespace", "self")],
    ),
    ("PUT", "api/instances/i-1", HERE | {"id": "i-2"}, 400, ["id: the address says i-1: leave it out"]),
    (
        "PUT", "addresses/instances/i-1", {"ip": "2001:db8::1"}, 400,
        ["ip: addresses has no AAAA records: list them in its dns_records"],
    ),
    ("PUT", "ports/instances/i-1", HERE, 400, ["port: is missing: the SRV records of ports say it"]),
    ("PUT", "checked/instances/i-1", HERE, 400, ["port: is missing: the service's health check has no port to ask at"]),
    ("PUT", "none/instances/i-1", HERE, 404, ["there is no service 'none' in a namespace 'services'"]),
    ("PUT", "listed/instances/i-1", HERE, 409, ["i-1 is listed in the configuration: there is where it changes"]),
    ("DELETE", "listed/instances/i-1", None, 409, ["i-1 is listed in the configuration: there is where it is removed"]),
    ("DELETE", "api/instances/none", None, 404, ["service 'api' of namespace 'services' has no instance 'none'"]),
    (
        "PUT", "listed/instances/i-1/heartbeat", None, 409,
        ["i-1 has registered without heartbeat_ttl: it is not listened for"],
    ),
    (
        "PUT", "listed/instances/i-1/health", {"status": "SICK"}, 400,
        ['status: must be HEALTHY, UNHEALTHY or AUTO, not "SICK"'],
    ),
    ("PUT", "listed/instances/i-1/health", {}, 400, ['must be {"status": "HEALTHY"}, or UNHEALTHY, or AUTO']),
    ("GET", "none/instances", None, 404, ["there is no service 'none' in a namespace 'services'"]),
    (
        "GET", "api/instances?max_results=0&health_status=OK&revision=-1&wait=1h&first=1", None, 400,
        [
            "max_results: must be a whole number from 1 to 1000",
            "health_status: must be one of HEALTHY, UNHEALTHY, ALL, HEALTHY_OR_ELSE_ALL",
            "revision: must be the instances_revision of an answer before",
            'wait: must be from 0s to 300s, not "1h"',
            "first: unknown, the parameters are health_status, max_results, wait, revision, query.KEY, optional.KEY",
        ],
    ),
    ("GET", "api/instances?wait=1s", None, 400, ["revision: is missing: say which one you know, to wait for another"]),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "mistakes"), MISTAKES)
def test_mistakes_in_words(site: Site, method: str, path: str, body: object, status: int, mistakes: list[str]) -> None:
    got, answer = site.ask(method, path, body)
    assert (got, answer.get("mistakes")) == (status, mistakes)
    assert site.find("api") == {}


def test_a_body_too_large(site: Site) -> None:
    status, answer = site.ask("PUT", "api/instances/i-1", b'{"ip": "' + b"1" * 70_000 + b'"}')
    assert (status, answer["title"]) == (413, "Request Entity Too Large")


def test_pages_in_browsers_may_not_write(site: Site) -> None:
    status, answer = site.ask("PUT", "api/instances/i-1", HERE, Origin="https://www.example.org")
    assert (status, answer["mistakes"]) == (403, ["a page in a browser has sent this, and none may write here"])
    assert site.ask("POST", "api/instances/i-1", HERE)[0] == 405


def test_limits_and_who_may_write(tmp_path: Path) -> None:
    with running(tmp_path, 1, "{instances: 3, instances_per_service: 2, long_polls: 2}") as site:
        for name in ("i-1", "i-2"):
            site.register("api", name, ip="192.0.2.1")
        full = "service api has 2 registered instances, there is no room for more"
        assert site.ask("PUT", "api/instances/i-3", HERE)[1]["mistakes"] == [full]
        site.register("api", "i-2", ip="192.0.2.2")  # who is there may change
        site.register("closed", "i-1", ip="192.0.2.1")
        status, answer = site.ask("PUT", "addresses/instances/i-1", HERE)
        assert (status, answer["mistakes"]) == (507, ["3 instances are registered, there is no room for more"])
        # Two who wait and say nothing more; a third has no room until one of them has left without a word.
        revision = site.ask("GET", "api/instances")[1]["instances_revision"]
        path = f"api/instances?wait=60s&revision={revision}"
        host, _, port = site.penstock.admin.rpartition(":")
        dead = [socket.create_connection((host, int(port))) for _ in range(2)]
        for each in dead:
            each.sendall(f"GET /namespaces/services/services/{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        site.until(lambda: site.ask("GET", path.replace("60s", "10ms"))[0] == 503)
        assert site.ask("GET", path)[1]["mistakes"] == ["2 others wait for a change already"]
        dead.pop().close()
        site.until(lambda: site.ask("GET", path.replace("60s", "10ms"))[0] == 200)
        (left,) = dead  # waits while the process ends, and is answered
    with left:
        assert left.recv(4096).startswith(b"HTTP/1.1 200 OK")
    (tmp_path / "penstock.yaml").unlink()
    with running(tmp_path, 1, "{allow: 192.0.2.0/24}") as site:
        status, answer = site.ask("DELETE", "api/instances/i-1")
        sentence = "127.0.0.1 may read and not write: service_discovery.registration.allow has it not"
        assert (status, answer["mistakes"]) == (403, [sentence])
        assert site.find("api")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_restart_keeps_what_sends_no_heartbeats(tmp_path: Path, workers: int) -> None:
    said = {"ip": "10.0.1.1", "port": 8080, "weight": 3, "attributes": {"color": "blue"}, "location": "eu/de"}
    with running(tmp_path, workers) as site:
        site.register("closed", "i-1", **said)
        site.register("closed", "i-2", ip="192.0.2.2", init_health_status="UNHEALTHY")
        site.register("closed", "i-3", ip="192.0.2.3", heartbeat_ttl="1h")
        site.ask("PUT", "listed/instances/i-1/health", {"status": "UNHEALTHY"})
        before = site.ask("GET", "closed/instances?query.color=blue")[1]
    with (tmp_path / ".penstock" / "instances.jsonl").open("a") as file:
        file.write(
            '{"namespace": "services", "service": "closed", "id": "i-4", "ip": "nowhere", "health": null}\nno JSON\n'
        )
    with running(tmp_path, workers) as site:
        assert site.find("closed", "?health_status=ALL") == {"i-1": "HEALTHY", "i-2": "UNHEALTHY"}
        assert (site.dig("closed"), site.dig("listed")) == (["10.0.1.1"], [])
        after = site.ask("GET", "closed/instances?query.color=blue")[1]
        assert after["instances"] == before["instances"]
        assert after["instances_revision"] > before["instances_revision"]
        for complaint in ("an instance is passed over: ip: must be", "instances.jsonl:5 is no record of an instance"):
            assert complaint in site.penstock.output()


def test_a_worker_that_is_replaced_knows_who_has_registered(tmp_path: Path) -> None:
    with running(tmp_path, 2) as site:
        site.register("api", "i-1", ip="192.0.2.1")
        victim = site.penstock.status()["workers"][0]["process_id"]
        os.kill(victim, signal.SIGKILL)
        site.until(
            lambda: all(
                worker["up"] and worker["process_id"] != victim for worker in site.penstock.status()["workers"]
            ),
            60,
        )
        assert all(site.dig("api") == ["192.0.2.1"] for _ in range(5))
