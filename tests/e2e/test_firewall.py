"""Security groups and network ACLs from the file to the wire: who gets in, who does not, and where it is said.

All of 127.0.0.0/8 is this machine, so a client can come from any of its addresses and a subnet can be a part of it.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import Origin, PenstockProcess, free_port, response, serving

FAMILIAR, STRANGER = "127.0.0.2", "127.0.0.3"
OUTSIDE = "127.0.1.2"  # of the subnet 127.0.0.0/24

WEB_SG = """\
security:
  security_groups:
    web-sg:
      description: Web tier
      ingress: [{port: 1024-65535, protocol: tcp, source: 127.0.0.2}]
"""

NETWORK = """\
network:
  vpc: {name: loop, cidr: 127.0.0.0/16}
  subnets: [{name: front, cidr: 127.0.0.0/24}]
"""


class Site:
    """One load balancer with a listener of each kind. `placed` is what it says of groups and subnets."""

    def __init__(self, folder: Path, sections: str, placed: str, *, log: str = "json", extra: str = "") -> None:
        self.origin = Origin(response(b"in"))
        self.ports = {protocol: free_port() for protocol in ("HTTP", "HTTPS", "TCP")}
        self.admin = f"127.0.0.1:{free_port()}"
        self.log = folder / "access.log"
        self._file = folder / "penstock.yaml"
        self._text = f"""\
{sections}
load_balancers:
  - name: application
    {placed}
    listeners:
      - {{port: {self.ports["HTTP"]}, address: 127.0.0.1, protocol: HTTP}}
      - {{port: {self.ports["HTTPS"]}, address: 127.0.0.1, protocol: HTTPS, certificate: dev}}
    target_groups: [{{name: tg-web, targets: [{{ip: 127.0.0.1, port: TARGET}}]}}]
  - name: network
    type: network
    {placed}
    listeners: [{{port: {self.ports["TCP"]}, address: 127.0.0.1, protocol: TCP}}]
    target_groups: [{{name: tg-tcp, targets: [{{ip: 127.0.0.1, port: TARGET}}]}}]
{extra}
certificates: [{{name: dev, self_signed: [localhost]}}]
access_log: {{file: access.log, format: {log}}}
admin: {{listen: "{self.admin}"}}
"""

    def running(self) -> PenstockProcess:
        """To be called while the origin serves, whose port is known then."""
        self._file.write_text(self._text.replace("TARGET", str(self.origin.port)))
        return PenstockProcess(self._file, admin=self.admin)

    def knock(self, protocol: str, source: str, *, source_port: int = 0) -> bytes:
        """What a client from `source` gets for a request; b"" when the connection ends without a byte."""
        port = self.ports[protocol]
        with socket.socket() as client:
            client.settimeout(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((source, source_port))
            client.connect(("127.0.0.1", port))
            try:
                if protocol == "HTTPS":
                    context = ssl.create_default_context()
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    with context.wrap_socket(client) as secure:
                        return ask(secure)
                return ask(client)
            except (ConnectionError, ssl.SSLEOFError):
                return b""

    def denied(self, penstock: PenstockProcess) -> dict[tuple[str, str], int]:
        """From /metrics: protocol of the listener and rule, to how many connections it denied."""
        by_port = {str(port): protocol for protocol, port in self.ports.items()}
        pattern = r'^penstock_connections_denied_total\{listener="127\.0\.0\.1:(\d+)",rule="([^"]+)"\} (\S+)$'
        metrics = penstock.get("/metrics")[1].decode()
        return {
            (by_port[port], rule): int(float(count)) for port, rule, count in re.findall(pattern, metrics, re.MULTILINE)
        }

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def ask(connection: socket.socket) -> bytes:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\nin") and not answer.startswith(b"HTTP/1.1 5"):
        more = connection.recv(65536)
        if not more:
            break
        answer += more
    return answer


EVERYWHERE = ("HTTP", "HTTPS", "TCP")


def test_a_client_that_no_ingress_rule_names_is_closed_counted_and_logged(tmp_path: Path) -> None:
    site = Site(tmp_path, WEB_SG, "security_groups: [web-sg]")
    with serving(site.origin):
        with site.running() as penstock:
            for protocol in EVERYWHERE:
                assert site.knock(protocol, FAMILIAR).endswith(b"in")
                assert site.knock(protocol, STRANGER) == b""
                assert site.knock(protocol, STRANGER) == b""
            rule = "sg:web-sg/ingress/default"
            assert site.denied(penstock) == {(protocol, rule): 2 for protocol in EVERYWHERE}
            assert len(site.origin.requests) == len(EVERYWHERE)
            assert [listener["requests"] for listener in penstock.status()["listeners"]] == [1, 1, 1]
            metrics = penstock.get("/metrics")[1].decode()
            assert not re.search(r"tls_handshakes_failed_total\{.*\} [1-9]", metrics), "TLS was never begun"
        refused = [line for line in site.lines() if "denied_by" in line]
        assert {(line["type"], line["denied_by"], line["reason"]) for line in refused} == {
            (protocol.lower(), rule, "denied") for protocol in EVERYWHERE
        }
        assert {line["client"].split(":")[0] for line in refused} == {STRANGER}
        assert len(refused) == 6


def test_a_denied_client_is_not_waited_for(tmp_path: Path) -> None:
    """It is closed before it has said anything, so a connection that is silent costs nothing."""
    site = Site(tmp_path, WEB_SG, "security_groups: [web-sg]", log="alb")
    with serving(site.origin):
        with site.running(), closing(socket.socket()) as client:
            client.settimeout(10)
            client.bind((STRANGER, 0))
            client.connect(("127.0.0.1", site.ports["HTTPS"]))
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
        (line,) = site.log.read_text().splitlines()
        fields = re.findall(r'"[^"]*"|\S+', line)
        assert len(fields) == 33, "as many as ALB's access log has"
        assert fields[0] == "https"
        assert fields[3].startswith(f"{STRANGER}:")
        assert '"denied:sg:web-sg/ingress/default"' in fields


def test_a_security_group_can_be_who_may_come(tmp_path: Path) -> None:
    """`source: internal-lb-sg` means the addresses of the load balancers that wear it."""
    sections = WEB_SG.replace("source: 127.0.0.2", "source: internal-lb-sg") + "    internal-lb-sg: {ingress: []}\n"
    inner = f"""\
  - name: internal
    security_groups: [internal-lb-sg]
    listeners:
      - port: {free_port()}
        address: {FAMILIAR}
        protocol: HTTP
        default_action: {{fixed_response: {{status: 200}}}}
"""
    site = Site(tmp_path, sections, "security_groups: [web-sg]", extra=inner)
    with serving(site.origin), site.running():
        assert site.knock("HTTP", FAMILIAR).endswith(b"in")
        assert site.knock("HTTP", STRANGER) == b""


def test_without_a_group_and_without_a_subnet_everyone_is_admitted(tmp_path: Path) -> None:
    """The sidecar's case: groups and ACLs are there, and the load balancer names none."""
    acls = "  network_acls: {closed: {inbound: [], outbound: []}}\n"
    site = Site(tmp_path, NETWORK + WEB_SG + acls, "scheme: internal")
    with serving(site.origin), site.running() as penstock:
        for protocol in EVERYWHERE:
            for source in (FAMILIAR, STRANGER, OUTSIDE):
                assert site.knock(protocol, source).endswith(b"in")
        assert site.denied(penstock) == {}


ACL = """\
security:
  network_acls:
    app-acl:
      inbound:
        - {number: 200, protocol: all, source: 0.0.0.0/0, action: allow}
        - {number: 100, protocol: tcp, source: 127.0.1.3, action: deny}
      outbound: [{number: 100, protocol: tcp, ports: 40000-65535, destination: 127.0.0.0/16, action: allow}]
"""


def test_an_acl_is_numbered_stateless_and_judges_the_answers_too(tmp_path: Path) -> None:
    site = Site(tmp_path, NETWORK + ACL, "subnets: [front]")
    with serving(site.origin):
        with site.running() as penstock:
            assert site.knock("HTTP", OUTSIDE, source_port=free_port_between(40000, 65536)).endswith(b"in")
            assert site.knock("HTTP", "127.0.1.3", source_port=free_port_between(40000, 65536)) == b""
            assert site.knock("HTTP", OUTSIDE, source_port=free_port_between(20000, 40000)) == b""
            assert site.knock("HTTP", STRANGER).endswith(b"in"), "it is in the subnet and crosses no border"
            assert site.denied(penstock) == {
                ("HTTP", "acl:app-acl/inbound/100"): 1,
                ("HTTP", "acl:app-acl/outbound/*"): 1,
            }
        rules = [line["denied_by"] for line in site.lines() if "denied_by" in line]
        assert rules == ["acl:app-acl/inbound/100", "acl:app-acl/outbound/*"]


def free_port_between(low: int, high: int) -> int:
    """A client's port that the test chooses, because the ACL's rule about answers looks at it."""
    for port in range(low + 123, high):
        with socket.socket() as sock:
            try:
                sock.bind((OUTSIDE, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


AWAY = NETWORK.replace("cidr: 127.0.0.0/24", "cidr: 127.0.9.0/24")  # a subnet that neither end is in
EGRESS = {
    "a security group": (
        WEB_SG.replace("source: 127.0.0.2", "source: 0.0.0.0/0") + "      egress: []\n",
        "security_groups: [web-sg]",
        "sg:web-sg/egress/default",
    ),
    "an ACL on the way out": (
        AWAY + ACL.replace("ports: 40000-65535, destination: 127.0.0.0/16", "destination: 127.0.0.2"),
        "subnets: [front]",
        "acl:app-acl/outbound/*",
    ),
    "an ACL on the answers' way back": (
        AWAY + ACL.replace("source: 127.0.1.3", "source: 127.0.0.1").replace("ports: 40000-65535, ", ""),
        "subnets: [front]",
        "acl:app-acl/inbound/100",
    ),
}


@pytest.mark.parametrize("what", EGRESS)
def test_a_target_that_may_not_be_connected_to_is_503_and_the_rule_is_told(tmp_path: Path, what: str) -> None:
    sections, placed, rule = EGRESS[what]
    site = Site(tmp_path, sections, placed)
    with serving(site.origin):
        with site.running() as penstock:
            assert site.knock("HTTP", FAMILIAR).startswith(b"HTTP/1.1 503 ")
            assert site.knock("TCP", FAMILIAR) == b""
            assert not site.origin.requests
            assert site.denied(penstock) == {("HTTP", rule): 1, ("TCP", rule): 1}
        http, tcp = site.lines()
    assert (http["type"], http["status"], http["reason"], http["denied_by"]) == ("http", 503, "target_denied", rule)
    assert (tcp["type"], tcp["reason"], tcp["denied_by"]) == ("tcp", "target_denied", rule)
