"""Names that were written down: CNAME chains, wildcards, empty non-terminals, and what stands beside a service."""

from __future__ import annotations

import pytest

from penstock.dns.answers import CHAIN_LIMIT
from penstock.dns.specs import InstanceSpec, RecordSpec, ServiceSpec
from support.dns_answers import answers_of, message, reply_to, said, zone

API = ServiceSpec(
    "api",
    (("A", 60), ("SRV", 60), ("HTTPS", 60)),
    "weighted",
    (
        InstanceSpec("i-1", "192.0.2.10", 8443, attributes=(("version", "1.0"), ("az", "us-west-1a"))),
        InstanceSpec("i-2", "192.0.2.11", 443),
    ),
    alpn=("h2",),
)
RECORDS = (
    RecordSpec("www", "CNAME", 30, ("api",)),
    RecordSpec("a", "CNAME", 30, ("b",)),
    RecordSpec("b", "CNAME", 30, ("www",)),
    RecordSpec("round", "CNAME", 30, ("about",)),
    RecordSpec("about", "CNAME", 30, ("round",)),
    RecordSpec("away", "CNAME", 30, ("app.example.org",)),
    RecordSpec("gone", "CNAME", 30, ("nobody",)),
    RecordSpec("leaf", "CNAME", 30, ("text",)),
    RecordSpec("text", "TXT", 30, ("v=1 " + "x" * 300, "other")),
    RecordSpec("@", "TXT", 30, ("apex",)),
    RecordSpec("db", "A", 30, ("192.0.2.40", "192.0.2.41")),
    RecordSpec("db", "AAAA", 30, ("2001:db8::40",)),
    RecordSpec("_ldap._tcp", "SRV", 30, ("10 5 389 db", "20 0 389 ldap.example.org.")),
    RecordSpec("*.apps", "A", 30, ("192.0.2.50",)),
    RecordSpec("own.apps", "TXT", 30, ("no address here",)),
    RecordSpec("*.alias", "CNAME", 30, ("api",)),
    RecordSpec("deep.down.below.apps", "A", 30, ("192.0.2.51",)),
)
ANSWERS = answers_of(zone(API, records=RECORDS))
OURS = ["api.services. A 192.0.2.10", "api.services. A 192.0.2.11"]


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        ("www.services", "A", ["www.services. CNAME api.services.", *OURS]),
        ("www.services", "CNAME", ["www.services. CNAME api.services."]),
        ("www.services", "ANY", ["www.services. CNAME api.services."]),
        (
            "a.services",
            "A",
            [
                "a.services. CNAME b.services.",
                "b.services. CNAME www.services.",
                "www.services. CNAME api.services.",
                *OURS,
            ],
        ),
        ("www.services", "TXT", ["www.services. CNAME api.services.", "SOA services."]),
        ("gone.services", "A", ["NXDOMAIN", "gone.services. CNAME nobody.services.", "SOA services."]),
        ("away.services", "A", ["away.services. CNAME app.example.org."]),
        (
            "round.services",
            "A",
            ["round.services. CNAME about.services.", "about.services. CNAME round.services."],
        ),
        ("services", "TXT", ['services. TXT "apex"']),
        ("db.services", "A", ["db.services. A 192.0.2.40", "db.services. A 192.0.2.41"]),
        ("db.services", "AAAA", ["db.services. AAAA 2001:db8::40"]),
        (
            "_ldap._tcp.services",
            "SRV",
            [
                "_ldap._tcp.services. SRV 10 5 389 db.services.",
                "_ldap._tcp.services. SRV 20 0 389 ldap.example.org.",
            ],
        ),
        # RFC 4592: what is not there, below the closest name that is.
        ("x.apps.services", "A", ["x.apps.services. A 192.0.2.50"]),
        ("y.x.apps.services", "A", ["y.x.apps.services. A 192.0.2.50"]),
        ("x.apps.services", "TXT", ["SOA services."]),
        ("*.apps.services", "A", ["*.apps.services. A 192.0.2.50"]),
        ("apps.services", "A", ["SOA services."]),
        ("own.apps.services", "A", ["SOA services."]),
        ("x.own.apps.services", "A", ["NXDOMAIN", "SOA services."]),
        ("down.below.apps.services", "A", ["SOA services."]),
        ("x.below.apps.services", "A", ["NXDOMAIN", "SOA services."]),
        ("deep.down.below.apps.services", "A", ["deep.down.below.apps.services. A 192.0.2.51"]),
        ("x.alias.services", "A", ["x.alias.services. CNAME api.services.", *OURS]),
        ("x.nothing.services", "A", ["NXDOMAIN", "SOA services."]),
        # Instances and services.
        ("i-1.api.services", "TXT", ['i-1.api.services. TXT "version=1.0" "az=us-west-1a"']),
        ("i-2.api.services", "TXT", ["SOA services."]),
        (
            "api.services",
            "HTTPS",
            [
                'api.services. HTTPS 1 i-1.api.services. alpn="h2" port="8443"',
                'api.services. HTTPS 1 i-2.api.services. alpn="h2" port="443"',
            ],
        ),
        ("10.2.0.192.in-addr.arpa", "PTR", ["10.2.0.192.in-addr.arpa. PTR i-1.api.services."]),
        ("10.2.0.192.in-addr.arpa", "A", ["SOA 10.2.0.192.in-addr.arpa."]),
        ("x.10.2.0.192.in-addr.arpa", "A", ["NXDOMAIN", "SOA 10.2.0.192.in-addr.arpa."]),
        ("2.0.192.in-addr.arpa", "PTR", ["not ours"]),
    ],
)
def test_what_a_name_says(name: str, rtype: str, expected: list[str]) -> None:
    assert said(ANSWERS, name, rtype) == expected
    assert said(ANSWERS, name, rtype, edns=True) == expected


def test_long_text_goes_on_in_the_next_string() -> None:
    (rrset,) = message(ANSWERS, "text.services", "TXT").answer
    assert [[len(part) for part in rdata.strings] for rdata in rrset] == [[255, 49], [5]]
    assert said(ANSWERS, "leaf.services", "TXT")[0] == "leaf.services. CNAME text.services."


def test_negative_answers_at_the_end_of_a_chain_may_be_kept_for_the_minimum() -> None:
    (soa,) = message(ANSWERS, "gone.services", "A").authority
    assert (soa.ttl, soa[0].minimum, str(soa.name)) == (5, 5, "services.")


def test_a_chain_ends_somewhere() -> None:
    links = tuple(RecordSpec(f"c{n}", "CNAME", 30, (f"c{n + 1}",)) for n in range(30))
    got = message(answers_of(zone(records=links)), "c0.services", "A")
    assert len(got.answer) == CHAIN_LIMIT


def test_a_chain_that_does_not_fit_is_cut_as_a_whole() -> None:
    many = ServiceSpec(
        "big", (("A", 60),), "weighted", tuple(InstanceSpec(f"b-{n}", f"192.0.2.{n}", 80) for n in range(50))
    )
    answers = answers_of(zone(many, records=(RecordSpec("www", "CNAME", 30, ("big",)),)))
    short = message(answers, "www.services", "A", limit=512)
    assert short.flags & 0x0200
    assert not short.answer
    assert sum(map(len, message(answers, "www.services", "A").answer)) == 51


def test_chains_follow_health_and_shares() -> None:
    sick: set[str] = set()
    pair = tuple(InstanceSpec(f"i-{n}", f"192.0.2.{n}", 80, weight=n, health_key=f"{n}") for n in (1, 3))
    answers = answers_of(
        zone(ServiceSpec("api", (("A", 60),), "weighted", pair), records=(RecordSpec("www", "CNAME", 30, ("api",)),)),
        sick=sick,
    )
    reply = reply_to(answers, "www.services", "A")
    assert reply is not None
    firsts = [reply.tail()[-12:] for _ in range(8)]
    assert len(set(firsts)) == 2
    sick.add("3")
    assert set(reply.depends) & set(answers.health_changed(["3"]))
    assert said(answers, "www.services", "A") == ["www.services. CNAME api.services.", "api.services. A 192.0.2.1"]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ((RecordSpec("api", "A", 30, ("192.0.2.1",)),), "has A records already"),
        ((RecordSpec("api", "CNAME", 30, ("db",)),), "a CNAME stands alone"),
        ((RecordSpec("x", "CNAME", 30, ("a", "b")),), "a CNAME stands alone"),
        ((RecordSpec("x", "CNAME", 30, ("a",)), RecordSpec("x", "A", 30, ("192.0.2.1",))), "a CNAME stands alone"),
        ((RecordSpec("i-1.api", "TXT", 30, ("x",)),), "an instance has this name"),
        ((RecordSpec("x", "A", 30, ("2001:db8::1",)),), "no address for A"),
        ((RecordSpec("x", "SRV", 30, ("1 2 3",)),), "no SRV record"),
        ((RecordSpec("x", "SRV", 30, ("1 2 65536 a",)),), "no SRV record"),
        ((RecordSpec("x", "TXT", 30, ()),), "no value"),
    ],
)
def test_records_that_contradict_are_refused_in_words(records: tuple[RecordSpec, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        answers_of(zone(API, records=records))
