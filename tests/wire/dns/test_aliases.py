"""A CNAME that leads out of our zones: followed for clients who may have us ask others, and for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from penstock.dns.forwarding_specs import ForwardingSpec, ForwardZoneSpec
from penstock.dns.specs import DnsSpec, NamespaceSpec, RecordSpec
from support import dns_packets as packets
from support.dig import dig
from support.dns_net import LOCAL, FakeResolver, Script, over_tcp, over_udp, resolving, serving
from support.loop import run

RECORDS = (
    RecordSpec("www", "CNAME", 60, ("web",)),
    RecordSpec("web", "CNAME", 60, ("lb.example.net.",)),
    RecordSpec("*.any", "CNAME", 60, ("lb.example.net.",)),
)
ZONE = NamespaceSpec(("example.org",), records=RECORDS)
NAME = "wWw.example.org"


def found(count: int) -> Script:
    def script(query: dns.message.Message, _: str) -> list[bytes]:
        reply = dns.message.make_response(query, recursion_available=True)
        addresses = [f"192.0.2.{n}" for n in range(count)]
        reply.answer.append(dns.rrset.from_text_list(query.question[0].name, 30, "IN", "A", addresses))
        return [reply.to_wire(max_size=65535)]

    return script


def failing(query: dns.message.Message, _: str) -> list[bytes]:
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.SERVFAIL)
    return [reply.to_wire()]


def missing(query: dns.message.Message, _: str) -> list[bytes]:
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.NXDOMAIN)
    soa = dns.rrset.from_text("example.net.", 300, "IN", "SOA", "ns.example.net. root.example.net. 1 2 3 4 60")
    reply.authority.append(soa)
    return [reply.to_wire()]


def scenario(test: Callable[[Any, FakeResolver], Any], script: Script, **others: Any) -> None:
    async def inner() -> None:
        async with resolving(script) as resolver:
            zones = ForwardingSpec(zones=(ForwardZoneSpec("example.net", (resolver.address,)),))
            async with serving(DnsSpec(LOCAL, (ZONE,), forwarding=zones, **others)) as server:
                await test(server, resolver)
                assert server.counters.internal_errors == 0

    run(inner())


@pytest.mark.parametrize("over", [over_udp, over_tcp])
@pytest.mark.parametrize(("name", "links"), [(NAME, 2), ("x.any.example.org", 1)])
def test_it_is_followed_and_the_rest_comes_from_the_cache_next_time(over: Any, name: str, links: int) -> None:
    async def test(server: Any, resolver: FakeResolver) -> None:
        for _ in range(2):
            message = dns.message.from_wire(await over(server.bound[0], packets.query(name)))
            assert str(message.question[0].name) == name + "."
            assert message.flags & dns.flags.AA
            assert message.flags & dns.flags.RA
            *aliases, last = message.answer
            assert len(aliases) == links
            assert str(last.name) == "lb.example.net."
            assert len(last) == 3
        assert len(resolver.asked) == 1
        assert server.counters.cache_hits == 1

    scenario(test, found(3))


def test_dig() -> None:
    async def test(server: Any, _: FakeResolver) -> None:
        dug = await asyncio.to_thread(dig, server.bound[0][1], NAME)
        assert dug.data[:2] == ["web.example.org.", "lb.example.net."]
        assert sorted(dug.data[2:]) == ["192.0.2.0", "192.0.2.1"]

    scenario(test, found(2))


def test_what_does_not_fit_comes_over_tcp() -> None:
    async def test(server: Any, _: FakeResolver) -> None:
        message = dns.message.from_wire(await over_udp(server.bound[0], packets.query(NAME)))
        assert message.flags & dns.flags.TC
        assert (len(message.question), message.answer) == (1, [])
        assert server.counters.truncated == 1
        message = dns.message.from_wire(await over_tcp(server.bound[0], packets.query(NAME)))
        assert len(message.answer[-1]) == 59

    scenario(test, found(59))


@pytest.mark.parametrize(("script", "rcode", "ede"), [(failing, "SERVFAIL", [22]), (missing, "NXDOMAIN", [])])
def test_the_response_code_is_the_last_names(script: Script, rcode: str, ede: list[int]) -> None:
    async def test(server: Any, _: FakeResolver) -> None:
        message = dns.message.from_wire(await over_udp(server.bound[0], packets.edns_query(NAME)))
        assert dns.rcode.to_text(message.rcode()) == rcode
        assert [option.code for option in message.options if isinstance(option, dns.edns.EDEOption)] == ede
        assert len(message.answer) == 2

    scenario(test, script)


@pytest.mark.parametrize(
    ("packet", "recursion"),
    [
        (packets.query(NAME, flags=0), None),  # who does not ask us to
        (packets.query(NAME), ("192.0.2.0/24",)),  # who may not
        (packets.query(NAME, 5), None),  # who wants the CNAME
    ],
)
def test_for_others_it_is_answered_as_it_stands(packet: bytes, recursion: tuple[str, ...] | None) -> None:
    async def test(server: Any, resolver: FakeResolver) -> None:
        for _ in range(2):
            message = dns.message.from_wire(await over_udp(server.bound[0], packet))
            assert message.rcode() == dns.rcode.NOERROR
            assert {dns.rdatatype.to_text(rrset.rdtype) for rrset in message.answer} == {"CNAME"}
        assert not resolver.asked

    scenario(test, found(1), recursion=recursion)


def test_a_name_that_nobody_is_asked_for_is_answered_as_it_stands() -> None:
    async def inner() -> None:
        async with serving(DnsSpec(LOCAL, (ZONE,))) as server:
            message = dns.message.from_wire(await over_udp(server.bound[0], packets.query(NAME)))
            assert len(message.answer) == 2
            assert not message.flags & dns.flags.RA

    run(inner())


@pytest.mark.parametrize(
    ("packet", "recursion", "code"),
    [
        (packets.edns_query("example.com"), None, 20),  # there is nobody to ask
        (packets.edns_query("www.example.net"), ("192.0.2.0/24",), 18),
        (packets.edns_query("example.org", 252), None, 18),
    ],
)
def test_a_refusal_says_why(packet: bytes, recursion: tuple[str, ...] | None, code: int) -> None:
    async def test(server: Any, _: FakeResolver) -> None:
        for _ in range(2):
            message = dns.message.from_wire(await over_udp(server.bound[0], packet))
            assert message.rcode() == dns.rcode.REFUSED
            assert [option.code for option in message.options] == [code]

    scenario(test, found(1), recursion=recursion)
