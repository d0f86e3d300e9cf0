"""Whole zones for secondaries: what dig and dnspython make of them, and that only secondaries have them."""

from __future__ import annotations

import asyncio
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, RecordSpec, ServiceSpec
from penstock.dns.transport_specs import TransportSpec
from support import dns_packets as packets
from support.dig import dig
from support.dns_net import LOCAL, framed, over_tcp, over_udp, read_framed, serving, tcp_client
from support.loop import run

MANY = tuple(InstanceSpec(f"i-{n}", f"10.0.{n // 200}.{n % 200}", 8080) for n in range(1, 1200))
ZONE = NamespaceSpec(
    ("services.example.org",),
    (ServiceSpec("api", (("A", 60), ("SRV", 30)), "weighted", MANY[:3]),
     ServiceSpec("many", (("A", 60),), "weighted", MANY[3:])),
    records=(
        RecordSpec("www", "CNAME", 300, ("api",)),
        RecordSpec("*.wild", "TXT", 300, ("any",)),
        RecordSpec("@", "TXT", 300, ("apex",)),
    ),
)  # fmt: skip


def spec(*secondaries: str, **others: Any) -> DnsSpec:
    return DnsSpec(listen=LOCAL, namespaces=(ZONE,), transport=TransportSpec(transfer_to=secondaries), **others)


def test_a_secondary_gets_the_zone_that_clients_see() -> None:
    async def scenario() -> None:
        async with serving(spec("127.0.0.1/32")) as server:
            address, port = server.bound[0]

            def fetch() -> dns.zone.Zone:
                return dns.zone.from_xfr(dns.query.xfr(address, "services.example.org", port=port, lifetime=20))

            zone = await asyncio.to_thread(fetch)
            assert len(zone.find_rdataset("api", "A")) == 3
            assert len(zone.find_rdataset("many", "A")) == 100, "as many as a client is told"
            assert str(zone.find_rdataset("www", "CNAME")[0]) == "api"
            assert str(zone.find_rdataset("*.wild", "TXT")[0]) == '"any"'
            assert str(zone.find_rdataset("@", "TXT")[0]) == '"apex"'
            # Name by name what a client is told.
            for name, rdataset in ((name, rdataset) for name, node in zone.items() for rdataset in node):
                if name.is_wild() or name.to_text() == "many" or name.to_text().startswith("i-"):
                    continue
                asked = packets.query(name.derelativize(zone.origin).to_text(), rdataset.rdtype)
                reply = await over_tcp(server.bound[0], asked)
                assert reply is not None
                told = dns.message.from_wire(reply).answer[0].to_rdataset()
                assert {r.to_text(origin=zone.origin, relativize=True) for r in told} == {r.to_text() for r in rdataset}
            dug = await asyncio.to_thread(dig, port, "+tcp", "services.example.org", "IXFR=1", "+noall", "+comments")
            assert dug.status == "NOERROR"

    run(scenario())


@pytest.mark.parametrize(
    ("secondaries", "over", "name"),
    [
        (("192.0.2.0/24",), over_tcp, "services.example.org"),
        (("127.0.0.0/8",), over_udp, "services.example.org"),
        (("127.0.0.0/8",), over_tcp, "api.services.example.org"),
        (("127.0.0.0/8",), over_tcp, "example.org"),
    ],
)
def test_nobody_else_does(secondaries: tuple[str, ...], over: Any, name: str) -> None:
    async def scenario() -> None:
        async with serving(spec(*secondaries)) as server:
            reply = dns.message.from_wire(await over(server.bound[0], packets.query(name, dns.rdatatype.AXFR)))
            assert (reply.rcode(), reply.answer) == (dns.rcode.REFUSED, [])
            assert server.counters.refused["transfer"] == (over is over_tcp)

    run(scenario())


def test_others_are_answered_while_a_zone_is_under_way() -> None:
    async def scenario() -> None:
        async with serving(spec("127.0.0.1/32")) as server, tcp_client(server.bound[0]) as (reader, writer):
            asked = packets.query("services.example.org", dns.rdatatype.AXFR)
            then = packets.query("api.services.example.org", dns.rdatatype.A)
            writer.write(framed(asked) + framed(then))

            async def read_all() -> list[dns.message.Message]:
                messages: list[dns.message.Message] = []
                while not messages or messages[-1].question[0].rdtype != dns.rdatatype.A:
                    messages.append(dns.message.from_wire(await read_framed(reader)))
                return messages

            reading = asyncio.create_task(read_all())
            others = 0
            while not reading.done():
                await over_udp(server.bound[0], then)
                others += 1
            *zone, answer = reading.result()
            assert others > 10, "a turn for each five names of 1200"
            assert zone[-1].answer[-1].rdtype == dns.rdatatype.SOA
            assert len(answer.answer[0]) == 3, "what was asked after the zone comes after it"

    run(scenario())
