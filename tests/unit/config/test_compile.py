"""What a file means for the planes: defaults that depend on each other, and how one thing refers to another."""

from __future__ import annotations

import pytest

from penstock.control.config import Settings
from penstock.control.config.settings import AccessLogSettings
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, NetworkSpec, ServiceSpec
from penstock.proxy.health import CheckKey
from penstock.proxy.specs import (
    ALL_PORTS,
    AclRuleSpec,
    Conditions,
    FirewallSpec,
    FixedResponse,
    Forward,
    HealthCheckSpec,
    ListenerSpec,
    NamedTargetSpec,
    NetworkAclSpec,
    OutlierSpec,
    Peers,
    PlacementSpec,
    Redirect,
    RuleSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
    TargetGroupSpec,
    TargetSpec,
    TracingSpec,
    WeightedGroup,
)
from support.loaded import settings


def test_a_listener_and_its_rules() -> None:
    [listener] = settings("""
    load_balancer:
      name: lb
      listeners:
        - port: 8080
          protocol: HTTP
          rules:
            - priority: 40
              conditions: {path: /teapot, method: GET}
              action: {fixed_response: {status: 418, body: "no coffee\\n"}}
            - priority: 10
              conditions: {host: [api.example.org], header: {X-Canary: ["yes"]}}
              action: {forward: [tg-web, {target_group: tg-api, weight: 3}]}
            - priority: 20
              conditions: {path: ["/old/*"]}
              action: {redirect: {status: 301, port: 443, path: "/new/#{path}"}}
          default_action: {forward: {target_group: tg-web, weight: 5}}
      target_groups: [{name: tg-web}, {name: tg-api}]
    """).proxy.listeners
    assert listener == ListenerSpec(
        "lb", "0.0.0.0", 8080, "HTTP", Forward((WeightedGroup("tg-web", 5),)),
        rules=(
            RuleSpec(
                10,
                Conditions(host=("api.example.org",), header=(("x-canary", ("yes",)),)),
                Forward((WeightedGroup("tg-web", 1), WeightedGroup("tg-api", 3))),
            ),
            RuleSpec(20, Conditions(path=("/old/*",)), Redirect(301, port="443", path="/new/#{path}")),
            RuleSpec(40, Conditions(path=("/teapot",), method=("GET",)), FixedResponse(418, body="no coffee\n")),
        ),
        tracing=TracingSpec(),
    )  # fmt: skip


def test_certificates_are_in_the_order_of_use() -> None:
    [listener] = settings("""
    load_balancer:
      name: lb
      listeners: [{port: 1, protocol: HTTPS, certificate: b, certificates: [a, b, c], ssl_policy: TLS-1-3}]
      target_groups: [{name: tg}]
    certificates: [{name: a, self_signed: a}, {name: b, self_signed: b}, {name: c, self_signed: c}]
    """).proxy.listeners
    assert [certificate.name for certificate in listener.certificates] == ["b", "a", "c"]
    assert listener.ssl_policy == "TLS-1-3"


@pytest.mark.parametrize(
    ("targets", "tls", "name"),
    [
        ("[{host: app.example.org}]", "", "app.example.org"),
        ("[{host: app.example.org}]", "tls: {verify: false}, ", "app.example.org"),
        ("[{host: app.example.org}]", "tls: {server_name: b.example.org}, ", "b.example.org"),
        ("[{host: app.example.org}, {ip: 192.0.2.1}]", "", None),
        ("[{host: app.example.org}, {host: b.example.org}]", "", None),
        ("[{ip: 192.0.2.1}]", "", None),
    ],
)
def test_targets_of_one_name_prove_that_they_are_it(targets: str, tls: str, name: str | None) -> None:
    group = f"{{name: tg, protocol: HTTPS, port: 443, {tls}health_check: {{}}, targets: {targets}}}"
    [found] = settings(f"load_balancer: {{name: lb, target_groups: [{group}]}}").proxy.target_groups
    assert found.tls.server_name == name


def test_targets_by_name_stand_beside_the_others() -> None:
    found = settings("""
    load_balancer:
      name: lb
      target_groups:
        - name: tg
          port: 8080
          targets: [{host: App.example.org., weight: 3}, {ip: 192.0.2.1}, {host: b.example.org, port: 81, zone: a}]
    resolution: {resolvers: [192.0.2.53, "[2001:db8::53]:5353"]}
    """)
    [group] = found.proxy.target_groups
    assert group.targets == (TargetSpec("192.0.2.1", 8080),)
    assert group.named_targets == (
        NamedTargetSpec("app.example.org", 8080, 3),
        NamedTargetSpec("b.example.org", 81, zone="a"),
    )
    assert found.resolvers == (("192.0.2.53", 53), ("2001:db8::53", 5353))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{}", TracingSpec("X-Amzn-Trace-Id", "pass")),
        ("{request_id: X-Request-Id}", TracingSpec("X-Request-Id", "pass")),
        ("{request_id: none, traceparent: begin}", TracingSpec(None, "begin")),
    ],
)
def test_what_requests_are_called(written: str, meant: TracingSpec) -> None:
    [listener] = settings(f"""
    load_balancer:
      name: lb
      tracing: {written}
      listeners: [{{port: 8080, protocol: HTTP}}]
      target_groups: [{{name: tg}}]
    """).proxy.listeners
    assert listener.tracing == meant


def test_relayed_connections_are_not_named() -> None:
    [listener] = settings("""
    load_balancer: {name: lb, type: network, listeners: [{port: 8080, protocol: TCP}], target_groups: [{name: tg}]}
    """).proxy.listeners
    assert listener.tracing is None


def test_a_target_group() -> None:
    [group] = settings("""
    load_balancer:
      name: lb
      target_groups:
        - name: tg
          port: 80
          algorithm: weighted_random
          deregistration_delay: 1m
          health_check: {path: /up, port: 81, interval: 2s, unhealthy_threshold: 3, matcher: "200,204"}
          targets: [{ip: 10.0.0.1}, {ip: "2001:DB8::1", port: 8080, weight: 0, zone: a}]
    """).proxy.target_groups
    assert group == TargetGroupSpec(
        "tg", "HTTP", "weighted_random",
        HealthCheckSpec("HTTP", "/up", 81, 2.0, 2.0, 5, 3, ((200, 200), (204, 204))),
        (TargetSpec("10.0.0.1", 80), TargetSpec("2001:db8::1", 8080, 0, "a")),
        60.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("balancer", "group", "check", "expected"),
    [
        ("application", "", "{}", ("HTTP", "HTTP")),
        ("application", "protocol: HTTPS,", "{}", ("HTTPS", "HTTPS")),
        ("application", "protocol: HTTPS,", "{protocol: HTTP}", ("HTTPS", "HTTP")),
        ("network", "", "{}", ("TCP", "TCP")),
        ("network", "protocol: TLS,", "{}", ("TLS", "TCP")),
        ("network", "", "{path: /health}", ("TCP", "HTTP")),
    ],
)
def test_protocols_that_are_left_out(balancer: str, group: str, check: str, expected: tuple[str, str]) -> None:
    text = (
        f"load_balancer: {{name: lb, type: {balancer}, target_groups: [{{name: tg, {group} health_check: {check}}}]}}"
    )
    [found] = settings(text).proxy.target_groups
    assert found.health_check is not None
    assert (found.protocol, found.health_check.protocol) == expected


@pytest.mark.parametrize(
    ("written", "timeout"), [("", 5.0), ("interval: 2s", 2.0), ("interval: 10s, timeout: 7s", 7.0)]
)
def test_a_timeout_that_is_left_out_is_never_longer_than_the_interval(written: str, timeout: float) -> None:
    [group] = settings(
        f"load_balancer: {{name: lb, target_groups: [{{name: tg, health_check: {{{written}}}}}]}}"
    ).proxy.target_groups
    assert group.health_check is not None
    assert group.health_check.timeout == timeout


FIREWALLED = """
network:
  vpc: {name: v, cidr: 10.0.0.0/16}
  subnets: [{name: a, cidr: 10.0.1.0/24}, {name: b, cidr: 10.0.2.0/24}, {name: c, cidr: 10.0.3.0/24}]
load_balancers:
  - name: web
    subnets: [a, b]
    security_groups: [web-sg, open-sg]
    listeners: [{port: 80, protocol: HTTP}, {port: 8080, address: 10.0.1.5, protocol: HTTP}]
    target_groups: [{name: tg-web}]
  - name: internal
    security_groups: [internal-sg]
    listeners:
      - {port: 81, address: 10.0.2.9, protocol: HTTP}
      - {port: 82, address: 10.0.2.9, protocol: HTTP}
      - {port: 81, address: "2001:db8::9", protocol: HTTP}
    target_groups: [{name: tg-internal}]
  - {name: free, target_groups: [{name: tg-free}]}
security:
  security_groups:
    web-sg:
      ingress:
        - {protocol: tcp, port: 80, source: internal-sg, description: from inside}
        - {protocol: tcp, port: 80-89, source: 192.0.2.7}
        - {protocol: tcp, port: 80, source: nobody-sg}
        - {protocol: all, source: web-sg}
      egress: []
    open-sg: {}
    internal-sg: {egress: [{protocol: udp, port: all, destination: 2001:db8::/32}]}
  network_acls:
    rest: {inbound: [], outbound: []}
    for-b:
      subnets: [b]
      inbound:
        - {number: 200, protocol: all, source: 0.0.0.0/0, action: deny}
        - {number: 100, protocol: tcp, ports: 80, source: 192.0.2.0/24, action: allow}
      outbound: [{number: 1, protocol: icmp, destination: "::/0", action: allow}]
"""


def test_security_groups_and_their_members() -> None:
    found = settings(FIREWALLED).proxy
    firewall = found.listeners[0].firewall
    assert firewall.groups == (
        SecurityGroupSpec(
            "web-sg",
            (
                SecurityRuleSpec(
                    "tcp", (80, 80), Peers("internal-sg", ("10.0.2.9/32", "2001:db8::9/128")), "from inside"
                ),
                SecurityRuleSpec("tcp", (80, 89), Peers("192.0.2.7/32", ("192.0.2.7/32",))),
                SecurityRuleSpec("tcp", (80, 80), Peers("nobody-sg", ())),
                SecurityRuleSpec("all", ALL_PORTS, Peers("web-sg", ("10.0.1.5/32",))),
            ),
        ),
        SecurityGroupSpec(
            "open-sg", (), (SecurityRuleSpec("all", ALL_PORTS, Peers("everyone", ("0.0.0.0/0", "::/0"))),)
        ),
    )
    [internal] = found.listeners[2].firewall.groups or ()
    assert internal.egress == (SecurityRuleSpec("udp", ALL_PORTS, Peers("2001:db8::/32", ("2001:db8::/32",))),)


def test_acls_and_the_subnets_they_are_for() -> None:
    found = settings(FIREWALLED).proxy
    everything = Peers("0.0.0.0/0", ("0.0.0.0/0",))
    assert found.listeners[0].firewall.placements == (
        PlacementSpec("a", "10.0.1.0/24", NetworkAclSpec("rest")),
        PlacementSpec(
            "b",
            "10.0.2.0/24",
            NetworkAclSpec(
                "for-b",
                (
                    AclRuleSpec(100, "tcp", (80, 80), Peers("192.0.2.0/24", ("192.0.2.0/24",)), True),
                    AclRuleSpec(200, "all", ALL_PORTS, everything, False),
                ),
                (AclRuleSpec(1, "icmp", ALL_PORTS, Peers("::/0", ("::/0",)), True),),
            ),
        ),
    )


def test_a_load_balancer_that_names_nothing_admits_everyone() -> None:
    assert dict(settings(FIREWALLED).proxy.group_firewalls)["tg-free"] == FirewallSpec()


def test_target_groups_have_the_firewall_of_their_load_balancer() -> None:
    found = settings(FIREWALLED).proxy
    assert dict(found.group_firewalls)["tg-web"] is found.listeners[0].firewall


DISCOVERED = """
network: {vpc: {name: v, cidr: 10.0.0.0/16, dns: {domain: app.local}}}
load_balancer:
  name: lb
  target_groups:
    - name: tg-web
      port: 80
      health_check: {path: /health, port: 81}
      targets: [{ip: 10.0.0.1, weight: 999, zone: a}, {ip: 10.0.0.2, weight: 1}, {ip: 10.0.0.3, weight: 0}]
service_discovery:
  namespaces:
    - name: Services
      routing_policy: weighted
      ttl: 1m
      services:
        - name: api
          dns_records: [{type: SRV, ttl: 5}, {type: A}]
          health_check: {path: /health, interval: 10s}
          instances:
            - {id: i-1, ip: 10.0.1.10, port: 8080, weight: 3, attributes: {version: "1.0"}}
            - {ip: "2001:db8::1", port: 8080}
        - {name: web, target_group: tg-web, routing_policy: multivalue}
        - {name: portless, instances: [{ip: 10.0.1.1}, {ip: "2001:db8::1", port: 80}]}
        - {name: later}
dns: {listen: [127.0.0.1:8053, "::1"], resolvers: 192.0.2.53}
"""
API_CHECK = HealthCheckSpec("HTTP", "/health", interval=10.0)


def test_namespaces_and_services() -> None:
    found = settings(DISCOVERED).dns
    web = HealthCheckSpec("HTTP", "/health", 81)
    assert found == DnsSpec(
        listen=(("127.0.0.1", 8053), ("::1", 53)),
        resolvers=(("192.0.2.53", 53),),
        networks=(NetworkSpec("v", ("10.0.0.0/16",)),),
        namespaces=(
            NamespaceSpec(
                ("services", "services.app.local"),
                ttl=60,
                services=(
                    ServiceSpec(
                        "api",
                        (("SRV", 5), ("A", 60)),
                        "weighted",
                        (
                            InstanceSpec(
                                "i-1", "10.0.1.10", 8080, 3, (("version", "1.0"),),
                                CheckKey("10.0.1.10", 8080, API_CHECK),
                            ),
                            InstanceSpec(
                                "2001-0db8-0000-0000-0000-0000-0000-0001-8080", "2001:db8::1", 8080,
                                health_key=CheckKey("2001:db8::1", 8080, API_CHECK),
                            ),
                        ),
                    ),
                    ServiceSpec(
                        "web",
                        (("A", 60), ("SRV", 60)),
                        "multivalue",
                        (
                            InstanceSpec(
                                "10-0-0-1-80", "10.0.0.1", 80, 255, (("zone", "a"),), CheckKey.of("10.0.0.1", 80, web),
                                zone="a",
                            ),
                            InstanceSpec("10-0-0-2-80", "10.0.0.2", 80, 1, health_key=CheckKey("10.0.0.2", 81, web)),
                            InstanceSpec("10-0-0-3-80", "10.0.0.3", 80, 0, health_key=CheckKey("10.0.0.3", 81, web)),
                        ),
                    ),
                    ServiceSpec(
                        "portless",
                        (("A", 60), ("AAAA", 60)),
                        "weighted",
                        (
                            InstanceSpec("10-0-1-1", "10.0.1.1", 0),
                            InstanceSpec("2001-0db8-0000-0000-0000-0000-0000-0001-80", "2001:db8::1", 80),
                        ),
                    ),
                    ServiceSpec("later", (("A", 60), ("AAAA", 60), ("SRV", 60)), "weighted"),
                ),
            ),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(("delay", "kept"), [("5s", 60.0), ("2m", 120.0)])
def test_a_removed_target_drains_for_as_long_as_clients_remember_it(delay: str, kept: float) -> None:
    text = DISCOVERED.replace("- name: tg-web\n", f"- name: tg-web\n      deregistration_delay: {delay}\n")
    [group] = settings(text).proxy.target_groups
    assert group.deregistration_delay == kept


def test_only_checks_that_no_target_group_makes_are_to_be_made_for_dns() -> None:
    assert settings(DISCOVERED).dns_checks == {
        CheckKey("10.0.1.10", 8080, API_CHECK),
        CheckKey("2001:db8::1", 8080, API_CHECK),
    }


def test_a_namespace_of_a_network_without_domain_has_one_name() -> None:
    found = settings("{service_discovery: {namespaces: [{name: services}]}, dns: {listen: 127.0.0.1}}")
    assert found.dns.namespaces[0].names == ("services",)


def test_an_empty_section_does_nothing() -> None:
    found = settings("security: {}")
    assert found.proxy.listeners == ()
    assert found.dns == DnsSpec()
    assert found == Settings(
        found.proxy, DnsSpec(), frozenset(), None, None, state_directory=found.state_directory, drain=30.0
    )


def test_the_process() -> None:
    found = settings("""
    admin: {}
    access_log: {file: "-", format: alb}
    state: {directory: /var/lib/penstock}
    shutdown: {grace: 5s, drain: 500ms}
    workers: 4
    """)
    assert found.admin == ("127.0.0.1", 9900)
    assert found.access_log == AccessLogSettings("/dev/stdout", "alb")
    assert str(found.state_directory) == "/var/lib/penstock"
    assert found.drain == 0.5
    assert found.grace == 5.0
    assert found.workers == 4
    assert settings("{workers: auto}").workers == "auto"


def test_how_a_group_chooses() -> None:
    [plain, keyed, own, watched] = settings("""
    network:
      vpc: {name: net, cidr: 10.0.0.0/16}
      subnets: [{name: one, cidr: 10.0.1.0/24, zone: z-a}, {name: two, cidr: 10.0.2.0/24, zone: z-a}]
    load_balancer:
      name: lb
      subnets: [one, two]
      target_groups:
        - {name: plain}
        - {name: keyed, algorithm: consistent_hash, hash_key: "cookie:sid", fail_open: false}
        - {name: own, cross_zone: false, slow_start: 30s, minimum_healthy_percentage: 50}
        - {name: watched, zone_preference: true, outlier_detection: {ejection_time: 10s}}
    """).proxy.target_groups
    assert plain == TargetGroupSpec("plain", zone="z-a")
    assert keyed == TargetGroupSpec(
        "keyed", algorithm="consistent_hash", hash_key="cookie:sid", fail_open=False, zone="z-a"
    )
    assert own == TargetGroupSpec("own", cross_zone=False, slow_start=30.0, minimum_healthy_percentage=50, zone="z-a")
    assert watched == TargetGroupSpec(
        "watched", zone_preference=True, outlier_detection=OutlierSpec(ejection_time=10.0), zone="z-a"
    )


@pytest.mark.parametrize(
    ("balancer", "zone"),
    [
        ("zone: z-b, subnets: [one]", "z-b"),
        ("subnets: [one]", "z-a"),
        ("subnets: [one, two]", None),
        ("subnets: [three]", None),
        ("type: application", None),
    ],
)
def test_where_a_load_balancer_stands(balancer: str, zone: str | None) -> None:
    [group] = settings(f"""
    network:
      vpc: {{name: net, cidr: 10.0.0.0/16}}
      subnets:
        - {{name: one, cidr: 10.0.1.0/24, zone: z-a}}
        - {{name: two, cidr: 10.0.2.0/24, zone: z-b}}
        - {{name: three, cidr: 10.0.3.0/24}}
    load_balancer: {{name: lb, {balancer}, target_groups: [{{name: tg}}]}}
    """).proxy.target_groups
    assert group.zone == zone


@pytest.mark.parametrize(
    ("group", "check", "protocol"),
    [
        ("protocol_version: GRPC", "{}", "GRPC"),
        ("protocol_version: GRPC, protocol: HTTPS", "{}", "GRPCS"),
        ("protocol_version: GRPC", "{path: /AWS.ALB/healthcheck, matcher: 12}", "GRPC"),
        ("protocol_version: GRPC", "{protocol: HTTP, path: /health}", "HTTP"),
        ("protocol_version: GRPC", "{protocol: TCP}", "TCP"),
        ("protocol_version: HTTP2", "{}", "HTTP"),
        ("protocol: HTTPS", "{}", "HTTPS"),
    ],
)
def test_targets_are_checked_in_what_they_speak(group: str, check: str, protocol: str) -> None:
    [found] = settings(f"""
    load_balancer: {{name: lb, target_groups: [{{name: tg, {group}, health_check: {check}}}]}}
    """).proxy.target_groups
    assert found.health_check is not None
    assert found.health_check.protocol == protocol
    assert (found.health_check.path == "/grpc.health.v1.Health/Check") == (protocol[:4] == "GRPC" and check == "{}")


def test_a_grpc_check_has_defaults_of_its_own() -> None:
    [plain, alb] = settings("""
    load_balancer:
      name: lb
      target_groups:
        - {name: plain, health_check: {protocol: GRPC}}
        - {name: alb, health_check: {protocol: GRPCS, path: /AWS.ALB/healthcheck, matcher: 12}}
    """).proxy.target_groups
    assert plain.health_check == HealthCheckSpec("GRPC", "/grpc.health.v1.Health/Check", matcher=((0, 0),))
    assert alb.health_check == HealthCheckSpec("GRPCS", "/AWS.ALB/healthcheck", matcher=((12, 12),))
