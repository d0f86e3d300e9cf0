"""A reload says what changed, one line per change, and nothing about what did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.control.config import Settings, differences
from support.certificates import Authority
from support.loaded import loaded, settings

BEFORE = """
network: {vpc: {name: v, cidr: 10.0.0.0/16}, subnets: [{name: a, cidr: 10.0.1.0/24}]}
load_balancer:
  name: lb
  subnets: [a]
  security_groups: [web-sg]
  listeners:
    - port: 80
      protocol: HTTP
      address: 127.0.0.1
      default_action: {forward: tg-web}
      rules:
        - {priority: 10, conditions: {path: /a}, action: {forward: tg-web}}
        - {priority: 20, conditions: {path: /b}, action: {forward: tg-web}}
  target_groups:
    - name: tg-web
      health_check: {interval: 5s}
      targets: [{ip: 10.0.1.10, port: 8080}, {ip: 10.0.1.11, port: 8080}]
    - {name: tg-api}
security:
  security_groups: {web-sg: {ingress: [{protocol: tcp, port: 80, source: 0.0.0.0/0}]}}
  network_acls: {acl: {inbound: [{number: 1, protocol: all, source: 0.0.0.0/0, action: allow}], outbound: []}}
service_discovery:
  namespaces:
    - name: services
      services: [{name: api, instances: [{id: i-1, ip: 10.0.1.10, port: 80}, {id: i-2, ip: 10.0.1.11, port: 80}]}]
dns: {listen: 127.0.0.1:8053}
admin: {listen: 127.0.0.1:9900}
"""
LISTENER = "listener 127.0.0.1:80"
API = "namespace services: service api"


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("load_balancer:", "# a comment\nload_balancer:", []),
        ("interval: 5s", "interval: 5000ms", []),
        ("name: tg-api", "name: tg-api, description: for the API", []),
        ("{ip: 10.0.1.11, port: 8080}", "{ip: 10.0.1.11, port: 8080}, {ip: 10.0.1.12, port: 8080}",
         ["target group tg-web: target 10.0.1.12:8080 added"]),
        (", {ip: 10.0.1.11, port: 8080}", "", ["target group tg-web: target 10.0.1.11:8080 removed"]),
        ("10.0.1.11, port: 8080", "10.0.1.11, port: 8080, weight: 5",
         ["target group tg-web: target 10.0.1.11:8080: weight 5, was 1"]),
        ("10.0.1.11, port: 8080", "10.0.1.11, port: 8080, zone: b",
         ["target group tg-web: target 10.0.1.11:8080 changed"]),
        ("[{ip: 10.0.1.10, port: 8080}, {ip: 10.0.1.11, port: 8080}]",
         "[{ip: 10.0.1.11, port: 8080}, {ip: 10.0.1.10, port: 8080}]", ["target group tg-web reordered"]),
        ("interval: 5s", "interval: 6s", ["target group tg-web: health check changed"]),
        ("health_check: {interval: 5s}", "deregistration_delay: 10s",
         ["target group tg-web: deregistration_delay 10s, was 300s", "target group tg-web: health check removed"]),
        ("- {name: tg-api}", "- {name: tg-apis, algorithm: weighted_random}",
         ["target group tg-apis added", "target group tg-api removed"]),
        ("name: tg-api", "name: tg-api, algorithm: weighted_random",
         ["target group tg-api: algorithm weighted_random, was round_robin"]),
        ("name: tg-api", "name: tg-api, stickiness: {type: lb_cookie, duration: 1h}",
         ["target group tg-api: stickiness lb_cookie AWSALB 3600s, was none"]),
        ("name: tg-api", "name: tg-api, retries: {attempts: 2}, limits: {queue: 1}",
         ["target group tg-api: attempts 2, was 1", "target group tg-api: queue 1, was 128"]),
        ("port: 80\n", "port: 80\n      limits: {body: 1MiB, rates: [{by: source, requests: 9}]}\n",
         [f"{LISTENER}: body 1048576, was 0", f"{LISTENER}: rate limits changed"]),
        ("path: /b", "path: /c", [f"{LISTENER}: rule 20 changed"]),
        ("priority: 20", "priority: 21", [f"{LISTENER}: rule 21 added", f"{LISTENER}: rule 20 removed"]),
        ("default_action: {forward: tg-web}", "default_action: {forward: tg-api}",
         [f"{LISTENER}: default action changed"]),
        ("port: 80\n", "port: 81\n", ["listener 127.0.0.1:81 added", "listener 127.0.0.1:80 removed"]),
        ("name: lb", "name: lb-2", [f"{LISTENER}: load balancer lb-2, was lb"]),
        ("tcp, port: 80", "tcp, port: 81",
         [f"{LISTENER}: security group web-sg changed", "target group tg-web: security group web-sg changed",
          "target group tg-api: security group web-sg changed"]),
        ("action: allow", "action: deny",
         [f"{LISTENER}: subnet a or its ACL changed", "target group tg-web: subnet a or its ACL changed",
          "target group tg-api: subnet a or its ACL changed"]),
        ("  security_groups: [web-sg]\n", "",
         [f"{LISTENER}: security group web-sg removed", "target group tg-web: security group web-sg removed",
          "target group tg-api: security group web-sg removed"]),
        ("id: i-2, ip: 10.0.1.11, port: 80", "id: i-2, ip: 10.0.1.11, port: 80, weight: 7",
         [f"{API}: instance i-2: weight 7, was 1"]),
        (", {id: i-2, ip: 10.0.1.11, port: 80}", "", [f"{API}: instance i-2 removed"]),
        ("name: api,", "name: api, routing_policy: weighted,", [f"{API}: routing policy weighted, was multivalue"]),
        ("name: api,", "name: api, dns_records: [{type: A, ttl: 5s}],", [f"{API}: records A 5s, was A 60s, SRV 60s"]),
        ("name: api,", "name: api, health_check: {path: /},",
         [f"{API}: instance i-1 changed", f"{API}: instance i-2 changed"]),
        ("name: services\n", "name: services\n      records: [{name: www, type: CNAME, value: api}]\n",
         ["namespace services: record www CNAME added"]),
        ("[{name: api,", "[{name: api, all_unhealthy: fail_closed, max_answers: 3, zone_affinity: true,",
         [f"{API}: when all are unhealthy fail_closed, was fail_open", f"{API}: max_answers 3, was the policy's",
          f"{API}: zone affinity True, was False"]),
        ("dns: {listen: 127.0.0.1:8053}",
         "dns: {listen: 127.0.0.1:8053, recursion: 10.0.0.0/8, networks: [{name: a, namespaces: [services]}]}",
         ["namespace services: seen by a, was everybody", "DNS recursion or latencies changed"]),
        ("name: services\n", "name: services\n      ttl: 5s\n",
         ["namespace services: ttl 5s, was 60s", f"{API}: records A 5s, SRV 5s, was A 60s, SRV 60s"]),
        ("cidr: 10.0.0.0/16}", "cidr: 10.0.0.0/16, dns: {domain: app.local}}",
         ["namespace services: answers as services, services.app.local, was services"]),
        ("8053", "8054", ["DNS listens at 127.0.0.1:8054, was 127.0.0.1:8053"]),
        ("dns: {", "dns: {resolvers: 192.0.2.53, ", ["DNS forwards to 192.0.2.53:53, was nowhere"]),
        ("admin: {listen: 127.0.0.1:9900}", "shutdown: {drain: 1s}",
         ["admin listens at nowhere, was 127.0.0.1:9900", "shutdown drain 1s, was 30s"]),
        ("admin:", "resolution: {resolvers: 192.0.2.53}\nadmin:",
         ["targets are resolved by 192.0.2.53:53, was /etc/resolv.conf"]),
        ("admin:", "shutdown: {grace: 0s}\nadmin:", ["shutdown grace 0s, was as needed"]),
        ("admin:", 'access_log: {file: "-"}\nadmin:', ["access log /dev/stdout as json, was none"]),
        ("admin:", "workers: auto\nadmin:", ["workers auto, was 1"]),
        ("admin:", "state: {directory: /other}\nadmin:", ["state directory /other, was /nowhere/.penstock"]),
    ],
)  # fmt: skip
def test_one_line_per_change(old: str, new: str, lines: list[str]) -> None:
    assert BEFORE.count(old) == 1
    before, after = settings(BEFORE), settings(BEFORE.replace(old, new))
    assert differences(before, after) == lines
    assert bool(differences(after, before)) == bool(lines)


SECURE = """
load_balancer:
  name: lb
  listeners: [{port: 1, protocol: HTTPS, certificates: [a, b]}]
  target_groups: [{name: tg}]
certificates: [{name: a, self_signed: a}, {name: b, self_signed: b}]
"""


def test_certificates(tmp_path: Path) -> None:
    def kept(text: str) -> Settings:
        return loaded(text, tmp_path, materialize=True).settings

    before = kept(SECURE)
    assert differences(before, kept(SECURE)) == []
    swapped = kept(SECURE.replace("[a, b]", "[b, a]"))
    assert differences(before, swapped) == ["listener 0.0.0.0:1: default certificate b"]
    without = kept(SECURE.replace("[a, b]", "[a]"))
    assert differences(before, without) == ["listener 0.0.0.0:1: certificate b removed"]
    renewed = kept(SECURE.replace("self_signed: b", "self_signed: [b, c]"))
    assert differences(before, renewed) == ["listener 0.0.0.0:1: certificate b changed"]
    policy = kept(
        SECURE.replace("self_signed: b", "self_signed: [b, c]").replace("HTTPS,", "HTTPS, ssl_policy: TLS-1-3,")
    )
    assert differences(renewed, policy) == [
        "listener 0.0.0.0:1: ssl_policy TLS-1-3, was ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    ]


def test_client_certificates(tmp_path: Path) -> None:
    def asking(what: str, authority: str = "one") -> Settings:
        (tmp_path / "ca.pem").write_bytes(Authority(authority).pem)
        listener = f"HTTPS, client_certificates: {{{what}}}, "
        return loaded(SECURE.replace("HTTPS, ", listener), tmp_path, materialize=True).settings

    off = asking("mode: off")
    optional, required = asking("mode: optional, ca_file: ca.pem"), asking("mode: required, ca_file: ca.pem")
    assert differences(off, loaded(SECURE, tmp_path).settings) == []
    assert differences(off, required) == ["listener 0.0.0.0:1: client certificates required, was off"]
    assert differences(optional, required)[0] == "listener 0.0.0.0:1: client certificates required, was optional"
    other = asking("mode: required, ca_file: ca.pem", "two")
    assert differences(required, other) == ["listener 0.0.0.0:1: authorities of client certificates changed"]
