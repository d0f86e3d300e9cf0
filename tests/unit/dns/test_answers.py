"""What names say: built by hand here, read by dnspython."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from itertools import islice
from typing import Any

import dns.message
import dns.name
import dns.rdatatype
import dns.reversename
import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dns.answers import Answers, Reply
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, ServiceSpec
from penstock.dns.wire import Question, read_query
from support import dns_packets as packets

INSTANCES = (
    InstanceSpec("i-1", "10.0.1.10", 8080, weight=3, health_key="one"),
    InstanceSpec("i-2", "10.0.1.11", 8081, weight=1, health_key="two"),
    InstanceSpec("i-6", "2001:db8::6", 8086, weight=1),
)
RECORDS = (("A", 60), ("AAAA", 61), ("SRV", 62))


def namespace(*services: ServiceSpec, names: tuple[str, ...] = ("services", "services.app.local")) -> NamespaceSpec:
    return NamespaceSpec(names, services)


def answers_of(*services: ServiceSpec, sick: frozenset[str] | set[str] = frozenset(), **others: Any) -> Answers:
    spec = DnsSpec(namespaces=(namespace(*services),), **others)
    return Answers(spec, lambda instance: instance.health_key not in sick, 7)


def api(**changes: Any) -> ServiceSpec:
    return ServiceSpec(**({"name": "api", "records": RECORDS, "policy": "weighted", "instances": INSTANCES} | changes))


def ask(answers: Answers, name: str, rtype: str, *, limit: int = 65535, edns: bool = False) -> Reply:
    make = packets.edns_query if edns else packets.query
    question = read_query(make(name, dns.rdatatype.from_text(rtype)))
    assert isinstance(question, Question)
    reply = answers.reply(question, limit, answers.views.outside)
    assert reply is not None
    return reply


def packet_of(reply: Reply) -> bytes:
    return b"\0\1" + reply.head + reply.tail()


def message(answers: Answers, name: str, rtype: str, **others: Any) -> dns.message.Message:
    return dns.message.from_wire(packet_of(ask(answers, name, rtype, **others)))


def texts(section: list[Any]) -> list[str]:
    """Each record as `owner ttl type data`."""
    return [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata}"
        for rrset in section
        for rdata in rrset
    ]


@pytest.mark.parametrize("zone", ["services", "services.app.local"])
def test_a_service_answers_under_every_name_of_its_namespace(zone: str) -> None:
    answers = answers_of(api())
    got = message(answers, f"api.{zone}", "A")
    assert texts(got.answer) == [f"api.{zone}. 60 A 10.0.1.10", f"api.{zone}. 60 A 10.0.1.11"]
    assert texts(message(answers, f"api.{zone}", "AAAA").answer) == [f"api.{zone}. 61 AAAA 2001:db8::6"]


@pytest.mark.parametrize("prefix", ["", "_http._tcp."])
def test_srv_names_targets_that_have_addresses(prefix: str) -> None:
    answers = answers_of(api())
    got = message(answers, f"{prefix}api.services", "SRV")
    owner = f"{prefix}api.services. 62 SRV"
    assert texts(got.answer) == [
        f"{owner} 1 3 8080 i-1.api.services.",
        f"{owner} 1 1 8081 i-2.api.services.",
        f"{owner} 1 1 8086 i-6.api.services.",
    ]
    extra = ["i-1.api.services. 60 A 10.0.1.10", "i-2.api.services. 60 A 10.0.1.11"]
    assert texts(got.additional) == [*extra, "i-6.api.services. 61 AAAA 2001:db8::6"]
    for line in texts(got.additional):
        name, _, rtype, _ = line.split()
        assert texts(message(answers, name, rtype).answer) == [line]


def test_srv_targets_are_not_compressed() -> None:
    """RFC 2782: the target is written out, for clients that cannot follow a pointer there."""
    packet = packet_of(ask(answers_of(api()), "api.services", "SRV"))
    assert packet.count(packets.wire_name("i-1.api.services")) == 1


def test_multivalue_srv_has_equal_weights() -> None:
    got = message(answers_of(api(policy="multivalue")), "api.services", "SRV")
    assert [(rdata.priority, rdata.weight) for rdata in got.answer[0]] == [(1, 1)] * 3


def test_the_question_and_every_owner_in_it_keep_the_clients_case() -> None:
    packet = packet_of(ask(answers_of(api()), "_HTTP._tcp.aPi.SerVices", "SRV"))
    assert packet[12:].startswith(packets.wire_name("_HTTP._tcp.aPi.SerVices"))
    got = dns.message.from_wire(packet)
    assert str(got.answer[0].name) == "_HTTP._tcp.aPi.SerVices."
    assert str(got.additional[0].name) == "i-1.aPi.SerVices."


def test_ptr_names_the_instance_and_only_ours() -> None:
    answers = answers_of(api())
    for instance in INSTANCES:
        name = dns.reversename.from_address(instance.ip).to_text()
        (line,) = texts(message(answers, name, "PTR").answer)
        assert line.endswith(f" PTR {instance.id}.api.services.")
    question = read_query(packets.query("12.1.0.10.in-addr.arpa", 12))
    assert isinstance(question, Question)
    assert answers.reply(question, 512, answers.views.outside) is None


def test_one_address_in_several_services_has_several_names() -> None:
    got = message(answers_of(api(), api(name="web")), "10.1.0.10.in-addr.arpa", "PTR")
    assert [str(rdata) for rdata in got.answer[0]] == ["i-1.api.services.", "i-1.web.services."]


def test_the_apex_has_soa_and_ns_and_its_server_an_address() -> None:
    answers = answers_of(api(), listen=(("127.0.0.1", 53), ("0.0.0.0", 53), ("::1", 53)))
    (soa,) = message(answers, "services.app.local", "SOA").answer
    zone = "services.app.local."
    assert str(soa[0]) == f"ns.{zone} hostmaster.{zone} 7 60 30 1209600 5"
    assert texts(message(answers, "services", "NS").answer) == ["services. 60 NS ns.services."]
    assert texts(message(answers, "ns.services", "A").answer) == ["ns.services. 60 A 127.0.0.1"]
    assert texts(message(answers, "ns.services", "AAAA").answer) == ["ns.services. 60 AAAA ::1"]


@pytest.mark.parametrize(
    ("name", "rtype", "rcode", "zone"),
    [
        ("_tcp.api.services", "A", "NOERROR", "services."),
        ("_http._tcp.api.services", "A", "NOERROR", "services."),
        ("api.services", "TXT", "NOERROR", "services."),
        ("services", "A", "NOERROR", "services."),
        ("i-1.api.services", "AAAA", "NOERROR", "services."),
        ("nope.services", "A", "NXDOMAIN", "services."),
        ("x.i-1.api.services", "A", "NXDOMAIN", "services."),
        ("nope.services.app.local", "A", "NXDOMAIN", "services.app.local."),
        ("10.1.0.10.in-addr.arpa", "A", "NOERROR", "10.1.0.10.in-addr.arpa."),
        ("x.10.1.0.10.in-addr.arpa", "PTR", "NXDOMAIN", "10.1.0.10.in-addr.arpa."),
    ],
)
def test_what_is_not_there_is_said_with_an_soa(name: str, rtype: str, rcode: str, zone: str) -> None:
    got = message(answers_of(api()), name, rtype)
    assert dns.rcode.to_text(got.rcode()) == rcode
    assert not got.answer
    (soa,) = got.authority
    assert (str(soa.name), soa.ttl, soa[0].minimum) == (zone, 5, 5)


def test_any_gets_one_rrset() -> None:
    assert texts(message(answers_of(api()), "api.services", "ANY").answer)[0].startswith("api.services. 60 A ")
    only_six = api(instances=INSTANCES[2:])
    assert [r.rdtype for r in message(answers_of(only_six), "api.services", "ANY").answer] == [dns.rdatatype.AAAA]


def test_two_ports_at_one_address_are_one_address_record_with_both_weights() -> None:
    twins = (
        InstanceSpec("a", "10.0.0.1", 80, weight=1),
        InstanceSpec("b", "10.0.0.1", 81, weight=2),
        InstanceSpec("c", "10.0.0.2", 80, weight=1),
    )
    answers = answers_of(api(instances=twins))
    reply = ask(answers, "api.services", "A")
    firsts = Counter(str(dns.message.from_wire(packet_of(reply)).answer[0][0]) for _ in range(40))
    assert firsts == {"10.0.0.1": 30, "10.0.0.2": 10}
    assert len(message(answers, "api.services", "A").answer[0]) == 2
    assert len(message(answers, "api.services", "SRV").answer[0]) == 3


class TestWeights:
    def test_ten_thousand_queries_share_first_place_by_weight(self) -> None:
        answers = answers_of(api())
        reply = ask(answers, "api.services", "A")
        firsts = Counter(tail[12:16] for tail in islice(iter(reply.tail, None), 10_000))
        assert abs(firsts[bytes((10, 0, 1, 10))] / 10_000 - 0.75) < 0.02
        assert sum(firsts.values()) == 10_000

    def test_the_share_holds_among_clients_who_spell_the_name_differently(self) -> None:
        answers = answers_of(api())
        replies = [ask(answers, name, "A") for name in ("api.services", "API.services", "aPi.SERVICES", "api.servicES")]
        firsts = Counter(reply.tail()[12:16] for _ in range(100) for reply in replies)
        assert firsts[bytes((10, 0, 1, 10))] == 300


class TestHealth:
    def setup_method(self) -> None:
        self.sick: set[str] = set()
        self.answers = answers_of(api(), sick=self.sick)

    def now(self, rtype: str = "A", name: str = "api.services") -> list[str]:
        return [str(rdata) for rrset in message(self.answers, name, rtype).answer for rdata in rrset]

    def test_an_unhealthy_instance_leaves_and_comes_back(self) -> None:
        assert self.now() == ["10.0.1.10", "10.0.1.11"]
        self.sick.add("one")
        assert self.answers.health_changed(["one"])
        assert self.now() == ["10.0.1.11"]
        assert [line.split()[-1] for line in self.now("SRV")] == ["i-2.api.services.", "i-6.api.services."]
        assert self.now("A", "i-1.api.services") == ["10.0.1.10"], "its own name stays: somebody was just given it"
        self.sick.clear()
        assert self.answers.health_changed(["one"])
        assert self.now() == ["10.0.1.10", "10.0.1.11"]

    def test_all_unhealthy_means_all_are_answered(self) -> None:
        self.sick.update(("one", "two"))
        self.answers.health_changed(self.sick)
        assert self.now() == ["10.0.1.10", "10.0.1.11"]

    def test_a_key_that_nothing_hangs_on_changes_nothing(self) -> None:
        assert not self.answers.health_changed(["another"])

    def test_only_what_hangs_on_the_key_is_made_anew(self) -> None:
        reverse = ask(self.answers, "10.1.0.10.in-addr.arpa", "PTR")
        six, four = ask(self.answers, "api.services", "AAAA"), ask(self.answers, "api.services", "A")
        over = self.answers.health_changed(["one"])
        assert not set(over) & {*reverse.depends, *six.depends}
        assert set(four.depends) <= set(over)
        assert ask(self.answers, "api.services", "AAAA").tail is six.tail


class TestSize:
    big = api(name="big", instances=tuple(InstanceSpec(f"b-{n}", f"10.9.0.{n}", 80) for n in range(40)))

    def test_additionals_go_first_and_without_tc(self) -> None:
        answers = answers_of(api())
        whole = packet_of(ask(answers, "api.services", "SRV"))
        for limit in range(60, len(whole) + 1):
            got = dns.message.from_wire(packet_of(ask(answers, "api.services", "SRV", limit=limit)))
            assert len(got.to_wire()) <= limit
            if got.flags & dns.flags.TC:
                assert not got.answer
                assert not got.additional
            else:
                assert len(got.answer[0]) == 3
                assert len(got.additional) in (0, 3)
            assert got.question[0].name == dns.name.from_text("api.services.")
        assert len(dns.message.from_wire(whole).additional) == 3

    def test_a_truncated_answer_keeps_question_and_opt(self) -> None:
        got = message(answers_of(self.big), "big.services", "A", limit=512, edns=True)
        assert got.flags & dns.flags.TC
        assert got.edns == 0
        assert len(got.question) == 1

    def test_the_largest_answer_fits_tcp(self) -> None:
        """A hundred records whose names are as long as names get, and a hundred additionals."""
        label = "x" * 59
        zone = ".".join(["y" * 50] * 2)
        many = tuple(InstanceSpec(f"{label}-{n:03}", f"2001:db8::{n:x}", 80) for n in range(300))
        service = api(name="z" * 60, instances=many)
        answers = Answers(DnsSpec(namespaces=(namespace(service, names=(zone,)),)), lambda _: True, 1)
        reply = ask(answers, f"{service.name}.{zone}", "SRV")
        assert not reply.truncated
        assert len(packet_of(reply)) < 65536
        got = dns.message.from_wire(packet_of(reply))
        assert (len(got.answer[0]), len(got.additional)) == (100, 100)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (DnsSpec(namespaces=(namespace(), namespace())), "another namespace answers under the same name"),
        (DnsSpec(namespaces=(namespace(api(), api()),)), "service 'api' is there twice"),
        (DnsSpec(namespaces=(namespace(api(instances=INSTANCES[:1] * 2)),)), "instance 'i-1' is there twice"),
        (DnsSpec(namespaces=(namespace(api(name="a" * 64)),)), "at most 63 characters"),
        (DnsSpec(namespaces=(namespace(names=("",)),)), "a label of a DNS name is empty"),
        (DnsSpec(namespaces=(namespace(api(name="é")),)), "xn--"),
        (
            DnsSpec(namespaces=(namespace(api(name="a" * 63), names=(".".join(["b" * 60] * 4),)),)),
            "longer than DNS allows",
        ),
        (DnsSpec(namespaces=(namespace(api(instances=(InstanceSpec("i", "nowhere", 1),))),)), "'nowhere'"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused_in_words(spec: DnsSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Answers(spec, lambda _: True, 1)


def test_a_zone_inside_another_has_its_names_to_itself() -> None:
    outer = namespace(api(), api(name="b.inner"), names=("example",))
    inner = namespace(api(instances=INSTANCES[:1]), names=("inner.example",))
    answers = Answers(DnsSpec(namespaces=(outer, inner)), lambda _: True, 1)
    assert message(answers, "b.inner.example", "A").rcode() == dns.rcode.NXDOMAIN
    assert len(message(answers, "api.inner.example", "A").answer[0]) == 1
    assert len(message(answers, "api.example", "A").answer[0]) == 2


addresses = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
members = st.lists(
    st.tuples(addresses, st.integers(1, 65535), st.integers(0, 255), st.booleans()),
    max_size=12,
    unique_by=lambda m: m[0],
)


def model(found: list[tuple[Any, ...]], keep: Callable[[tuple[Any, ...]], bool], limit: int) -> tuple[set[Any], int]:
    """Who may be answered by Route 53's rules, written down again and plainly; and how many of them are."""
    family = [member for member in found if keep(member)]
    healthy = [member for member in family if member[3]]
    standing = [member for member in healthy if member[2]] or healthy or family
    return set(standing), min(len(standing), limit)


@settings(deadline=None, max_examples=60)
@given(members, st.sampled_from(["weighted", "multivalue"]), st.booleans())
def test_any_service_says_what_the_rules_say(found: list[tuple[Any, ...]], policy: str, edns: bool) -> None:
    instances = tuple(
        InstanceSpec(f"i-{n}", ip, port, weight, (), ok) for n, (ip, port, weight, ok) in enumerate(found)
    )
    spec = DnsSpec(namespaces=(namespace(api(policy=policy, instances=instances)),))
    answers = Answers(spec, lambda instance: bool(instance.health_key), 1)
    limit = 8 if policy == "multivalue" else 100
    for rtype, version in (("A", "."), ("AAAA", ":")):
        standing, count = model(found, lambda member, mark=version: mark in member[0], limit)
        got = message(answers, "api.services", rtype, edns=edns)
        assert bool(got.answer) == bool(count)
        said = {ip_address(str(rdata)) for rrset in got.answer for rdata in rrset}
        assert len(said) == count
        assert said <= {ip_address(member[0]) for member in standing}
    standing, count = model(found, lambda _: True, limit)
    got = message(answers, "api.services", "SRV", edns=edns)
    said_targets = [(str(rdata.target).split(".")[0], rdata.port) for rrset in got.answer for rdata in rrset]
    assert len(said_targets) == count == len(got.additional)
    assert set(said_targets) <= {(f"i-{found.index(member)}", member[1]) for member in standing}
    packet = packet_of(ask(answers, "api.services", "SRV", edns=edns))
    assert len(dnslib.DNSRecord.parse(packet).rr) == count, "dnslib reads it too"
