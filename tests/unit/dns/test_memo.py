"""What is remembered, for whom, and what makes it be forgotten: that, and nothing else."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rdatatype
import pytest

from penstock.dns import memo
from penstock.dns.answers import Answers
from penstock.dns.cache import Cache
from penstock.dns.counters import DnsCounters
from penstock.dns.forwarder import Forwarder
from penstock.dns.lasting import Lasting
from penstock.dns.responder import LATER, Responder
from penstock.dns.specs import DnsSpec, InstanceSpec, NetworkSpec, RecordSpec, ServiceSpec
from support import dns_packets as packets
from support.dns_answers import answers_of, zone

HERE, STRANGER = "10.0.1.9", "203.0.113.9"


def service(name: str, *ids: str, **others: Any) -> ServiceSpec:
    instances = tuple(InstanceSpec(each, f"192.0.2.{each}", 80, health_key=each) for each in ids)
    return ServiceSpec(name, (("A", 60), ("SRV", 60)), "weighted", instances, **others)


class Site:
    """A responder that is asked over UDP, as the listener does it: the memo first."""

    def __init__(self, *namespaces: Any, **others: Any) -> None:
        self.sick: set[str] = others.pop("sick", set())
        self.counters = DnsCounters()
        self.answers = answers_of(*namespaces, sick=self.sick, **others)
        self.responder = Responder(self.answers, Forwarder(Cache(), self.counters), self.counters)
        self.hits = 0

    def ask(self, name: str, rtype: str = "A", client: str = HERE) -> list[str]:
        packet = packets.query(name, dns.rdatatype.from_text(rtype))
        table = self.responder.memo
        reply = (self.responder.memos.by_client[client] if table is None else table).get(packet[2:])
        if reply is not None:
            self.hits += 1
            reply.hits += 1
            answer = packet[:2] + reply.head + reply.tail()
        else:
            answer = self.responder.respond(packet, "udp", lambda _: None, client)
            assert isinstance(answer, bytes)
        got = dns.message.from_wire(answer)
        code = [] if got.rcode() == 0 else [dns.rcode.to_text(got.rcode())]
        return code + sorted(str(rdata) for rrset in got.answer for rdata in rrset)


def test_a_change_of_health_forgets_the_questions_about_that_service_and_no_others() -> None:
    site = Site(zone(service("api", "1", "2"), service("web", "3")))
    for _ in range(2):
        assert site.ask("api.services") == ["192.0.2.1", "192.0.2.2"]
        assert site.ask("web.services") == ["192.0.2.3"]
    assert site.hits == 2
    site.sick.add("1")
    site.responder.health_changed(["1"])
    assert site.ask("api.services") == ["192.0.2.2"]
    assert site.ask("web.services") == ["192.0.2.3"]
    assert site.hits == 3, "web was still remembered"
    site.responder.count_hits()
    assert site.counters.queries["udp", "A"] == 6, "hits of what was forgotten are counted too"


def test_an_instance_comes_and_goes_and_every_name_says_so_at_once() -> None:
    record = RecordSpec("*.api", "A", 60, ("192.0.2.99",))
    site = Site(zone(service("api", "1"), service("web", "3"), records=(record,)))
    new = InstanceSpec("new", "192.0.2.7", 80)

    def now() -> list[list[str]]:
        for _ in range(2):
            found = [
                site.ask("api.services"),
                site.ask("new.api.services"),
                site.ask("7.2.0.192.in-addr.arpa", "PTR"),
                site.ask("3.web.services"),
            ]
        return found

    before = [["192.0.2.1"], ["192.0.2.99"], ["REFUSED"], ["192.0.2.3"]]
    assert now() == before
    site.responder.register("services", "API", new)
    assert now() == [["192.0.2.1", "192.0.2.7"], ["192.0.2.7"], ["new.api.services."], ["192.0.2.3"]]
    site.responder.register("services", "api", InstanceSpec("new", "192.0.2.8", 80))
    assert now() == [["192.0.2.1", "192.0.2.8"], ["192.0.2.8"], ["REFUSED"], ["192.0.2.3"]]
    site.responder.deregister("Services", "api", "NEW")
    assert now() == before
    assert site.counters.internal_errors == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda site: site.register("services", "nope", InstanceSpec("a", "192.0.2.1", 1)), "no service 'nope'"),
        (lambda site: site.register("services", "api", InstanceSpec("a_b", "here", 1)), "here"),
        (lambda site: site.deregister("services", "api", "nope"), "no instance 'nope'"),
        (lambda site: site.register("services", "api", InstanceSpec("www", "192.0.2.1", 1)), "its name is taken"),
    ],
)
def test_what_cannot_be_registered_is_said_and_changes_nothing(change: Any, words: str) -> None:
    site = Site(zone(service("api", "1"), records=(RecordSpec("www.api", "A", 60, ("192.0.2.9",)),)))
    names = dict(site.answers.registry.names)
    with pytest.raises(ValueError, match=words):
        change(site.responder)
    assert site.answers.registry.names == names
    assert site.ask("api.services") == ["192.0.2.1"]


def test_views_remember_each_their_own() -> None:
    network = NetworkSpec("here", ("10.0.0.0/8",))
    site = Site(zone(service("api", "1", "2"), networks=("here",)), networks=(network,))
    for _ in range(3):
        assert site.ask("api.services") == ["192.0.2.1", "192.0.2.2"]
        assert site.ask("api.services", client=STRANGER) == ["REFUSED"]
        assert site.ask("api.services", client="10.9.9.9") == ["192.0.2.1", "192.0.2.2"]
    assert site.hits == 6, "clients of one network share what is remembered, and a refusal is from the second time on"
    site.sick.add("2")
    site.responder.health_changed(["2"])
    assert site.ask("api.services", client="10.9.9.9") == ["192.0.2.1"]


def test_a_flood_of_names_that_are_not_there_leaves_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "ABSENT_LIMIT", 10)
    site = Site(zone(service("api", "1")))
    site.ask("api.services")
    for number in range(100):
        assert site.ask(f"x{number}.services") == ["NXDOMAIN"]
        assert site.ask(f"x{number}.example") == ["REFUSED"]
    assert site.responder.memo is not None
    assert len(site.responder.memo) <= 11
    site.ask("api.services")
    assert site.hits == 1


def test_the_oldest_go_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FEWEST": 8, "MOST": 8, "EVICTED": 2}.items():
        monkeypatch.setattr(memo, name, value)
    site = Site(zone(service("api", "1", "2")))
    spellings = ["".join(pair) + "i.services" for pair in ("ap", "aP", "Ap", "AP")]
    for rtype in ("A", "SRV", "TXT", "AAAA"):
        for name in spellings:
            site.ask(name, rtype)
    assert site.responder.memo is not None
    assert len(site.responder.memo) <= 8
    site.sick.add("1")
    site.responder.health_changed(["1"])
    assert site.ask("api.services") == ["192.0.2.2"]
    site.responder.count_hits()
    assert sum(site.counters.queries.values()) == 17


def test_last_healthy_is_who_was_healthy_before_all_fell_and_outlives_a_reload() -> None:
    site = Site(zone(service("api", "1", "2", "3", all_unhealthy="last_healthy")))
    for fallen in ("1", "3", "2"):
        site.sick.add(fallen)
        site.responder.health_changed([fallen])
    assert site.ask("api.services") == ["192.0.2.2"]
    spec = zone(service("api", "1", "2", "3", all_unhealthy="last_healthy"))
    after = Answers(DnsSpec(namespaces=(spec,)), lambda each: each.health_key not in site.sick, 8, site.answers)
    site.responder.use(after)
    assert site.ask("api.services") == ["192.0.2.2"]
    site.sick.remove("3")
    site.responder.health_changed(["3"])
    assert site.ask("api.services") == ["192.0.2.3"]


def test_fail_closed_is_no_data() -> None:
    site = Site(zone(service("api", "1", all_unhealthy="fail_closed")), sick={"1"})
    assert site.ask("api.services") == []
    assert site.counters.responses["NOERROR"] == 1
    site.sick.clear()
    site.responder.health_changed(["1"])
    assert site.ask("api.services") == ["192.0.2.1"]


class NeverAnswers:
    """Stands for the forwarder."""

    resolvers = (("192.0.2.53", 53),)
    forwards = True

    def __init__(self) -> None:
        self.asked = 0
        self.lasting = Lasting()

    def takes(self, _: object) -> bool:
        return True

    def ask(self, *_: object) -> None:
        self.asked += 1


def test_strangers_are_not_forwarded_for_and_that_is_counted() -> None:
    forwarder, counters = NeverAnswers(), DnsCounters()
    answers = answers_of(zone(service("api", "1")), resolvers=forwarder.resolvers)
    responder = Responder(answers, forwarder, counters)  # type: ignore[arg-type]
    packet = packets.query("app.example.org")
    assert responder.respond(packet, "udp", lambda _: None, HERE) is LATER
    for _ in range(2):
        refused = responder.respond(packet, "udp", lambda _: None, STRANGER)
        assert isinstance(refused, bytes)
        assert int.from_bytes(refused[2:4]) & 0x008F == 5, "REFUSED, and RA is not set"
    assert (forwarder.asked, counters.refused["recursion"]) == (1, 2)
    assert not list(responder.memos.replies()), "each one counts"
    responder.use(answers, ("203.0.113.0/24",))
    assert responder.respond(packet, "udp", lambda _: None, STRANGER) is LATER


def test_a_flood_of_names_that_are_not_there_is_not_remembered_and_who_asks_again_is() -> None:
    site = Site(zone(service("api", "1")))
    for number in range(memo.ABSENT_LIMIT + 10):
        assert site.ask(f"x{number}.services") == ["NXDOMAIN"]
    assert not site.responder.memo
    for _ in range(3):
        assert site.ask("typo.services") == ["NXDOMAIN"]
    assert site.hits == 1
    site.responder.register("services", "api", InstanceSpec("typo", "192.0.2.9", 80))
    assert site.ask("typo.api.services") == ["192.0.2.9"]
    assert packets.query("typo.services")[2:] not in (site.responder.memo or {}), "a name has appeared"
