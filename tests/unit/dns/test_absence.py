"""Names that are not there: answered by kind of question, and never otherwise than by looking closely."""

from __future__ import annotations

import pytest

from penstock.dns import absence
from penstock.dns.cache import Cache
from penstock.dns.counters import DnsCounters
from penstock.dns.forwarder import Forwarder
from penstock.dns.responder import Responder
from penstock.dns.specs import InstanceSpec, NetworkSpec, RecordSpec, ServiceSpec
from support import dns_packets as packets
from support.dns_answers import answers_of, zone

HERE, STRANGER = "10.0.1.9", "203.0.113.9"
API = ServiceSpec("api", (("A", 60),), "weighted", (InstanceSpec("i-1", "192.0.2.1", 80),))


def responder(*records: RecordSpec) -> Responder:
    answers = answers_of(
        zone(API, records=records),
        zone(API, names=("secret.services",), networks=("here",)),
        networks=(NetworkSpec("here", ("10.0.0.0/8",)),),
    )
    counters = DnsCounters()
    return Responder(answers, Forwarder(Cache(), counters), counters)


def looked_up(to: Responder, packet: bytes, client: str = HERE) -> bytes:
    answer = to.respond(packet, "udp", lambda _: None, client)
    assert isinstance(answer, bytes)
    return answer


def by_kind(to: Responder, packet: bytes, client: str = HERE) -> bytes | None:
    return to.memos.by_client[client].absence.answer(packet)


QUESTIONS = [
    packets.query,
    lambda name: packets.query(name, 33),
    lambda name: packets.query(name, flags=0x0010),
    packets.edns_query,
    lambda name: packets.edns_query(name, ttl=0x8000),
    lambda name: packets.edns_query(name, options=packets.option(10, b"12345678")),
]


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize("parent", ["services", "api.services", "SerVices"])
@pytest.mark.parametrize("client", [HERE, STRANGER])
def test_whatever_the_label_says_the_answer_is_what_looking_it_up_finds(ask, parent: str, client: str) -> None:
    site = responder()
    first = ask(f"aaaa.{parent}")
    assert by_kind(site, first, client) is None, "the first of its kind"
    assert looked_up(site, first, client)
    for label in ("aaaa", "bbbb", "BbBb", "-_ *"):
        packet = b"\xab\xcd" + ask(f"{label}.{parent}")[2:]
        assert by_kind(site, packet, client) == looked_up(responder(), packet, client)
    for other in (f"aaaaa.{parent}", f"a.aaaa.{parent}", "aaaa", f"aaaa.other.{parent}"):
        assert by_kind(site, ask(other), client) is None
    assert sum(reply.hits for reply in site.memos.replies()) == 4
    site.count_hits()
    assert site.counters.responses["NXDOMAIN"] == 5


def test_what_is_there_is_not_denied() -> None:
    site = responder(RecordSpec("www", "A", 60, ("192.0.2.7",)))
    for name in ("abc.services", "xxx.api.services", "secrex.services"):
        looked_up(site, packets.query(name))
        looked_up(site, packets.query(name), STRANGER)
    for name in ("api.services", "www.services", "WWW.services", "i-1.api.services"):
        assert by_kind(site, packets.query(name)) is None, name
    assert by_kind(site, packets.query("secret.services"), STRANGER) is None, "looked at closely, and denied"
    assert by_kind(site, packets.query("new.api.services")) is not None
    site.register("services", "api", InstanceSpec("new", "192.0.2.8", 80))
    assert by_kind(site, packets.query("new.api.services")) is None
    site.deregister("services", "api", "new")
    assert by_kind(site, packets.query("new.api.services")) is not None


def test_what_changes_below_an_instance_is_left_to_be_looked_up() -> None:
    site = responder(RecordSpec("*.api", "A", 60, ("192.0.2.7",)))
    below = packets.query("x.i-1.api.services")
    assert looked_up(site, below)[3] & 15 == 3, "the instance is the closest name, and no wildcard is below it"
    assert by_kind(site, below) is None
    site.deregister("services", "api", "i-1")
    assert looked_up(site, packets.query("y.i-1.api.services"))[3] & 15 == 0, "now the wildcard stands in"


def test_a_wildcard_and_a_name_led_to_nothing_are_no_kinds() -> None:
    site = responder(RecordSpec("*.apps", "CNAME", 60, ("nowhere.services",)))
    for name in ("aaa.apps.services", "bbb.apps.services"):
        assert looked_up(site, packets.query(name))[7] == 1, "the CNAME"
        assert by_kind(site, packets.query(name)) is None


@pytest.mark.parametrize("case", packets.CASES, ids=lambda case: case.name)
def test_packets_of_any_shape_are_looked_at_closely(case: packets.Case) -> None:
    site = responder()
    looked_up(site, packets.query("aaaa.services"))
    assert by_kind(site, case.packet) is None
    for cut in range(len(packets.query("bbbb.services"))):
        assert by_kind(site, packets.query("bbbb.services")[:cut]) is None


def test_kinds_are_bounded_and_their_hits_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "KINDS_LIMIT", 8)
    site = responder()
    for length in range(1, 30):
        looked_up(site, packets.query("a" * length + ".services"))
        assert by_kind(site, packets.query("b" * length + ".services")) is not None
    assert sum(1 for reply in site.memos.replies()) <= 8
    site.count_hits()
    assert site.counters.responses["NXDOMAIN"] == 58
