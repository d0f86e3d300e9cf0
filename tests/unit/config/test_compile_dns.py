"""Networks, regions, policies and written records, from YAML to what the DNS plane is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.control.config import load
from penstock.dns.specs import DnsSpec, InstanceSpec, NetworkSpec, RecordSpec
from support.loaded import mistakes, warnings

TEXT = """
network:
  vpc: {name: app, cidr: 10.0.0.0/16, region: us-west, zones: [a, b]}
  subnets: [{name: app-a, cidr: 10.0.1.0/24, zone: a}, {name: app-b, cidr: 10.0.2.0/24, zone: b}]
service_discovery:
  namespaces:
    - name: services
      ttl: 30s
      services:
        - name: api
          routing_policy: geolocation
          all_unhealthy: last_healthy
          max_answers: 3
          zone_affinity: true
          dns_records: [{type: A}, {type: HTTPS, alpn: [h2]}]
          instances:
            - {id: one, ip: 10.0.1.10, port: 443, location: eu/de}
            - {id: two, ip: 10.0.2.10, port: 443, zone: c, region: elsewhere, failover: secondary}
            - {id: far, ip: 192.0.2.1, port: 443}
      records: [{name: www, type: CNAME, value: api}, {name: "@", type: TXT, ttl: 5, value: [one, two]}]
    - {name: open.example}
dns:
  listen: 127.0.0.1
  recursion: 10.0.0.0/8
  networks:
    - {name: app, namespaces: [services], location: us}
    - {name: app-b, zone: z}
    - {name: office, cidrs: [203.0.113.0/24, "2001:db8::/32"], namespaces: [services], region: eu}
  latencies: [{region: us-west, to: eu, latency: 140ms}]
"""


@pytest.fixture(scope="module")
def dns(tmp_path_factory: pytest.TempPathFactory) -> DnsSpec:
    file: Path = tmp_path_factory.mktemp("names") / "names.yaml"
    file.write_text(TEXT)
    return load(file, now=1795132800.0, materialize=False).settings.dns


def test_the_vpc_and_its_subnets_are_networks_and_more_is_said_of_them(dns: DnsSpec) -> None:
    assert dns.networks == (
        NetworkSpec("app", ("10.0.0.0/16",), "", "us-west", "us"),
        NetworkSpec("app-a", ("10.0.1.0/24",), "a", "us-west", "us"),
        NetworkSpec("app-b", ("10.0.2.0/24",), "z", "us-west", "us"),
        NetworkSpec("office", ("203.0.113.0/24", "2001:db8::/32"), "", "eu", ""),
    )
    assert dns.recursion == ("10.0.0.0/8",)
    assert dns.latencies == (("us-west", "eu", 0.14),)


def test_who_lists_a_namespace_sees_it_and_what_nobody_lists_all_see(dns: DnsSpec) -> None:
    assert [namespace.networks for namespace in dns.namespaces] == [("app", "office", "app-a", "app-b"), ()]


def test_instances_are_where_their_subnet_is_unless_told(dns: DnsSpec) -> None:
    (api,) = dns.namespaces[0].services
    assert api.instances == (
        InstanceSpec("one", "10.0.1.10", 443, zone="a", region="us-west", location="eu/de"),
        InstanceSpec("two", "10.0.2.10", 443, failover="secondary", zone="c", region="elsewhere"),
        InstanceSpec("far", "192.0.2.1", 443),
    )
    assert (api.policy, api.all_unhealthy, api.max_answers, api.zone_affinity) == (
        "geolocation", "last_healthy", 3, True,
    )  # fmt: skip
    assert (api.records, api.alpn) == ((("A", 30), ("HTTPS", 30)), ("h2",))


def test_written_records(dns: DnsSpec) -> None:
    assert dns.namespaces[0].records == (
        RecordSpec("www", "CNAME", 30, ("api",)),
        RecordSpec("@", "TXT", 5, ("one", "two")),
    )


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("routing_policy: failover, instances: [{ip: 10.0.1.1, port: 80, failover: secondary}]", "all are secondary"),
        ("routing_policy: geolocation, instances: [{ip: 10.0.1.1, port: 80, location: eu}]", "all have a location"),
        ("routing_policy: latency", "dns.latencies says nothing"),
        (f"instances: [{{ip: 10.0.1.1, port: 80, attributes: {{key: {'x' * 252}}}}}]", "longer than the 255 octets"),
    ],
)
def test_what_will_not_do_what_somebody_may_expect_is_a_warning(service: str, said: str) -> None:
    namespaces = f"{{namespaces: [{{name: a, services: [{{name: b, {service}}}]}}]}}"
    [warning] = warnings(f"{{service_discovery: {namespaces}, dns: {{listen: 127.0.0.1}}}}")
    assert said in warning


def test_records_that_no_answer_can_hold_are_a_mistake_with_its_place() -> None:
    values = ", ".join(f"{n:04}{'x' * 246}" for n in range(300))
    text = f"{TEXT.partition('      records:')[0]}      records: [{{name: long, type: TXT, value: [{values}]}}]\n"
    [mistake] = mistakes(text)
    assert "service_discovery.namespaces[0].records[0].value" in mistake
    assert mistake.endswith("is 78900 octets in all, and an answer holds 65000")


@pytest.mark.parametrize(("delay", "ttl", "warned"), [("5s", "60s", True), ("60s", "60s", False), ("5s", "5s", False)])
def test_a_target_that_drains_for_less_than_a_ttl_is_warned_of(delay: str, ttl: str, warned: bool) -> None:
    found = warnings(f"""
    load_balancer:
      name: lb
      target_groups: [{{name: web, deregistration_delay: {delay}, targets: [{{ip: 192.0.2.1, port: 80}}]}}]
      listeners: [{{port: 80, address: 127.0.0.1, protocol: HTTP, default_action: {{forward: web}}}}]
    service_discovery: {{namespaces: [{{name: services, services: [
      {{name: web, target_group: web, dns_records: [{{type: A, ttl: {ttl}}}]}}]}}]}}
    dns: {{listen: 127.0.0.1}}
    """)
    assert [str(each).partition("target_group: ")[2] for each in found] == [
        f"web has a deregistration_delay of {delay}, and clients may go by an answer for {ttl}: "
        "a target that is removed drains for as long"
    ] * warned
