"""Health checks by their effect: who gets traffic and who is answered, by one truth for both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import Exchange, Origin, PenstockProcess, free_port, hang, response, serving
from support.certificates import issue
from support.curl import curl
from support.dig import dig
from support.echo import EchoOrigin

INTERVAL = 0.2


class Backend:
    """An origin at an address of its own, whose health the test decides."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.status = 200
        self.failed_checks = 0
        self.origin = Origin(self._reply, address=address)

    async def _reply(self, exchange: Exchange) -> None:
        if exchange.request.target == b"/health":
            if self.status != 200:
                self.failed_checks += 1
            exchange.writer.write(response(status=self.status))
        else:
            exchange.writer.write(response(self.address.encode()))


@dataclass
class Site:
    penstock: PenstockProcess
    port: int
    dns: int

    def served(self) -> set[str]:
        """Who answers, over HTTP."""
        return set(curl(*[f"http://127.0.0.1:{self.port}/"] * 12, "-w", "\n").text.split())

    def answered(self, name: str = "web") -> set[str]:
        """Who is answered, over DNS."""
        return set(dig(self.dns, f"{name}.services.", "A").data)

    def health(self, key: str = "state") -> list[str]:
        (group, *_) = self.penstock.status()["target_groups"]
        return [target["health"][key] for target in group["targets"]]


@contextmanager
def running(folder: Path, group: str, *, services: str = "", certificate: str = "") -> Iterator[Site]:
    port, dns, admin = free_port(), free_port(), f"127.0.0.1:{free_port()}"
    file = folder / "penstock.yaml"
    file.write_text(f"""\
load_balancer:
  name: lb
  listeners: [{{port: {port}, address: 127.0.0.1, protocol: HTTP}}]
  target_groups: [{{name: tg-web, {group}}}]
service_discovery:
  namespaces: [{{name: services, ttl: 1s, services: [{{name: web, target_group: tg-web}}{services}]}}]
dns: {{listen: "127.0.0.1:{dns}"}}
admin: {{listen: "{admin}"}}
""")
    with PenstockProcess(file, admin=admin) as penstock:
        yield Site(penstock, port, dns)


def check(**keys: Any) -> str:
    keys = {"interval": INTERVAL, "timeout": INTERVAL, "unhealthy_threshold": 1, "healthy_threshold": 1} | keys
    return "health_check: {" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"


def targets(*addresses: tuple[str, int]) -> str:
    return "targets: [" + ", ".join(f"{{ip: {ip}, port: {port}}}" for ip, port in addresses) + "]"


def until(condition: Callable[[], bool], seconds: float = 10) -> float:
    """Wait for it; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it never came about"
        time.sleep(0.01)
    return time.monotonic() - began


def test_one_failed_check_takes_a_target_out_of_traffic_and_dns_and_all_failed_takes_none(tmp_path: Path) -> None:
    one, two = backends = [Backend("127.0.0.1"), Backend("127.0.0.2")]
    both = {one.address, two.address}
    own = (
        ", {name: own, dns_records: [{type: A}], "
        + check(path="/health")
        + ", instances: [{ip: 127.0.0.1, port: ONE}, {ip: 127.0.0.2, port: TWO}]}"
    )
    with serving(*(backend.origin for backend in backends)):
        own = own.replace("ONE", str(one.origin.port)).replace("TWO", str(two.origin.port))
        group = f"{check(path='/health')}, {targets(*((each.address, each.origin.port) for each in backends))}"
        with running(tmp_path, group, services=own) as site:
            until(lambda: site.health() == ["healthy", "healthy"])
            assert site.served() == site.answered() == site.answered("own") == both

            two.status = 500
            until(lambda: site.health() == ["healthy", "unhealthy"])
            assert two.failed_checks <= 2, "the first failed check decided; one more may have come while we looked"
            assert site.served() == site.answered() == site.answered("own") == {one.address}
            assert site.health("reason") == ["", "Target.ResponseCodeMismatch"]
            assert f"target 127.0.0.2:{two.origin.port} is unhealthy: " in site.penstock.output()

            one.status = 503
            until(lambda: site.health() == ["unhealthy", "unhealthy"])
            assert site.served() == site.answered() == site.answered("own") == both, "fail open"

            two.status = 200
            until(lambda: site.health() == ["unhealthy", "healthy"])
            assert site.served() == site.answered() == site.answered("own") == {two.address}
        assert sum(request.target == b"/health" for request in one.origin.requests) > 0


def test_it_takes_no_longer_than_one_interval(tmp_path: Path) -> None:
    """Jitter is a fifth either way; the rest of the second is for a busy machine."""
    one, two = backends = [Backend("127.0.0.1"), Backend("127.0.0.2")]
    with serving(*(backend.origin for backend in backends)):
        group = f"{check(path='/health')}, {targets(*((each.address, each.origin.port) for each in backends))}"
        with running(tmp_path, group) as site:
            until(lambda: site.health() == ["healthy", "healthy"])
            one.status = 500
            assert until(lambda: site.answered() == {two.address}) < INTERVAL * 1.2 + 1


def test_thresholds_count(tmp_path: Path) -> None:
    backend, other = Backend("127.0.0.1"), Backend("127.0.0.2")
    with serving(backend.origin, other.origin):
        both = targets(*((each.address, each.origin.port) for each in (backend, other)))
        checked = check(path="/health", interval=0.1, timeout=0.1, unhealthy_threshold=3, healthy_threshold=2)
        with running(tmp_path, f"{checked}, {both}") as site:
            until(lambda: site.health() == ["healthy", "healthy"])
            backend.status = 404
            until(lambda: site.health() == ["unhealthy", "healthy"])
            assert backend.failed_checks >= 3
            seen = len(backend.origin.requests)
            backend.status = 200
            until(lambda: site.health() == ["healthy", "healthy"])
            assert len(backend.origin.requests) - seen >= 2


def test_the_first_check_is_made_at_once_and_until_it_is_over_everyone_is_used(tmp_path: Path) -> None:
    """With an interval of an hour only the first check can have made anyone healthy."""
    quick, slow = Backend("127.0.0.1"), Origin(hang, address="127.0.0.2")
    with serving(quick.origin, slow):
        slow_first = targets(("127.0.0.2", slow.port), ("127.0.0.1", quick.origin.port))
        with running(tmp_path, f"{check(path='/health', interval='1h', timeout=60)}, {slow_first}") as site:
            until(lambda: site.health() == ["initial", "healthy"])
            assert site.health("reason")[0] == "Elb.InitialHealthChecking"
            assert site.served() == site.answered() == {quick.address}, "initial is not healthy"


def test_while_all_are_initial_all_are_answered(tmp_path: Path) -> None:
    silent = [Origin(hang, address="127.0.0.1"), Origin(hang, address="127.0.0.2")]
    with serving(*silent):
        pair = targets(*((each.address, each.port) for each in silent))
        with running(tmp_path, f"{check(path='/health', interval='1h', timeout=60)}, {pair}") as site:
            assert site.health() == ["initial", "initial"]
            assert site.answered() == {"127.0.0.1", "127.0.0.2"}


def test_tcp_and_https_checks_see_a_program_come_and_go(tmp_path: Path) -> None:
    certificate = issue("localhost")
    pem = tmp_path / "origin.pem"
    pem.write_bytes(certificate.key_pem + certificate.chain_pem)
    with ExitStack() as leaving, ExitStack() as staying:
        secure = leaving.enter_context(EchoOrigin(pem))
        other = staying.enter_context(EchoOrigin(pem))
        ports = [secure.port, other.port]
        pair = targets(*(("127.0.0.1", port) for port in ports))
        verified = "protocol: HTTPS, tls: {ca_file: origin.pem, server_name: localhost}"
        https = f"{verified}, {check(protocol='HTTPS', path='/health')}, {pair}"
        tcp = f", {{name: tcp, dns_records: [{{type: SRV}}], {check(protocol='TCP')}, instances: [" + ", ".join(
            f"{{id: port-{port}, ip: 127.0.0.1, port: {port}}}" for port in ports
        )
        with running(tmp_path, https, services=tcp + "]}") as site:

            def tcp_answered() -> set[str]:
                return {data.split(" ")[2] for data in dig(site.dns, "tcp.services.", "SRV").data}

            until(lambda: site.health() == ["healthy", "healthy"])
            until(lambda: tcp_answered() == set(map(str, ports)))
            answer = curl(f"http://127.0.0.1:{site.port}/page").json
            assert answer["line"] == "GET /page HTTP/1.1", "forwarded by TLS"
            leaving.close()
            until(lambda: site.health() == ["unhealthy", "healthy"])
            until(lambda: site.health("description")[0] == "Health checks failed: connection refused.")
            until(lambda: tcp_answered() == {str(other.port)})
            for _ in range(4):
                assert curl("-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{site.port}/").text == "200"


# What a target answers to its check, and what is said of it; None: it is healthy.
ANSWERS = {
    "no-content": (response(status=204), None),
    "redirect": (response(status=302), None),
    "not-found": (response(status=404), "Health checks failed with these codes: [404]"),
    "mail": (b"220 mail.example.org ESMTP\r\n", "Health checks failed: the answer is not HTTP/1.1."),
    "silence": (hang, "Request timed out."),
}


def test_what_counts_as_healthy(tmp_path: Path) -> None:
    origins = {name: Origin(reply) for name, (reply, _) in ANSWERS.items()}
    with serving(*origins.values()):
        everyone = targets(*(("127.0.0.1", origin.port) for origin in origins.values()))
        with running(tmp_path, f"{check(path='/')}, {everyone}") as site:
            until(lambda: "initial" not in site.health())
            assert dict(zip(origins, site.health("description"), strict=True)) == {
                name: description or "" for name, (_, description) in ANSWERS.items()
            }
            assert site.health() == [
                "healthy" if description is None else "unhealthy" for _, description in ANSWERS.values()
            ]
