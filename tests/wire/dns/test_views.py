"""Views, health and instances that come and go, through a running server: over UDP, TCP, and at a wildcard address."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import dns.message
import dns.rdatatype
import pytest

from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, NetworkSpec, ServiceSpec
from penstock.dns.transport_specs import TransportSpec
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, Health, read_framed, serving

NETWORKS = (NetworkSpec("a", ("127.0.0.1/32",), zone="a"), NetworkSpec("b", ("127.0.0.2/32",), zone="b"))
API = ServiceSpec(
    "api",
    (("A", 60),),
    "weighted",
    tuple(InstanceSpec(f"{zone}-{n}", f"192.0.2.{n}", 80, zone=zone, health_key=n) for zone, n in (("a", 1), ("b", 2))),
    zone_affinity=True,
)
SECRET = NamespaceSpec(("secret",), (ServiceSpec("api", (("A", 60),), "weighted", API.instances),), networks=("a",))
SPEC = DnsSpec(listen=LOCAL, namespaces=(NamespaceSpec(("services",), (API,)), SECRET), networks=NETWORKS)


async def ask(server: tuple[str, int], source: str, name: str, transport: str = "udp", rtype: str = "A") -> list[str]:
    packet = packets.query(name, dns.rdatatype.from_text(rtype))
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        if transport == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.bind((source, 0))
                sock.connect(server)
                await loop.sock_sendall(sock, packet)
                reply = await loop.sock_recv(sock, 4096)
        else:
            reader, writer = await asyncio.open_connection(*server, local_addr=(source, 0))
            writer.write(len(packet).to_bytes(2) + packet)
            reply = await read_framed(reader)
            writer.close()
            await writer.wait_closed()
    got = dns.message.from_wire(reply)
    return [str(rdata) for rrset in got.answer for rdata in rrset] or [dns.rcode.to_text(got.rcode())]


def table(server: DnsServer, address: str, *questions: tuple[str, str]) -> Any:
    async def asked() -> list[list[str]]:
        bound = (address, server.bound[0][1])
        return [await ask(bound, source, name, how) for how in ("udp", "udp", "tcp") for source, name in questions]

    return asked()


@pytest.mark.parametrize("transport", [TransportSpec(), TransportSpec(top_names=9)], ids=["bare", "guarded"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_each_client_is_answered_by_its_network(address: str, transport: TransportSpec) -> None:
    async def scenario() -> None:
        spec = DnsSpec(((address, 0),), SPEC.namespaces, networks=NETWORKS, transport=transport)
        async with serving(spec) as server:
            questions = [
                ("127.0.0.1", "api.services"),
                ("127.0.0.2", "api.services"),
                ("127.0.0.3", "api.services"),
                ("127.0.0.1", "api.secret"),
                ("127.0.0.2", "api.secret"),
            ]
            both = ["192.0.2.1", "192.0.2.2"]
            found = [sorted(each) for each in await table(server, "127.0.0.1", *questions)]
            assert found == [["192.0.2.1"], ["192.0.2.2"], both, both, ["REFUSED"]] * 3
            assert server.counters.queries["udp", "A"] == 10
            assert server.counters.internal_errors == 0

    asyncio.run(scenario())


def test_health_and_registration_are_in_the_next_answer() -> None:
    async def scenario() -> None:
        health = Health()
        async with serving(SPEC, health=health) as server:
            here = (("127.0.0.1", "api.services"),)
            assert await table(server, "127.0.0.1", *here) == [["192.0.2.1"]] * 3
            health.sick.add(1)
            server.health_changed([1])
            assert await table(server, "127.0.0.1", *here) == [["192.0.2.2"]] * 3
            server.register("services", "api", InstanceSpec("a-9", "192.0.2.9", 80, zone="a"))
            assert await table(server, "127.0.0.1", *here) == [["192.0.2.9"]] * 3
            server.deregister("services", "api", "a-9")
            assert await table(server, "127.0.0.1", *here) == [["192.0.2.2"]] * 3
            with pytest.raises(ValueError, match="no service 'x'"):
                server.deregister("services", "x", "a-9")

    asyncio.run(scenario())


def test_health_that_changes_while_a_configuration_is_prepared_is_heeded_by_it() -> None:
    async def scenario() -> None:
        health = Health()
        async with serving(SPEC, health=health) as server:
            prepared = await server.prepare(SPEC)
            health.sick.add(1)
            server.health_changed([1])
            prepared.commit()
            assert await table(server, "127.0.0.1", ("127.0.0.1", "api.services")) == [["192.0.2.2"]] * 3

    asyncio.run(scenario())


def test_views_come_and_go_with_the_configuration() -> None:
    async def scenario() -> None:
        async with serving(SPEC) as server:
            question = ("127.0.0.2", "api.secret")
            assert await table(server, "127.0.0.1", question) == [["REFUSED"]] * 3
            open_ = DnsSpec(LOCAL, (NamespaceSpec(("secret",), SECRET.services),), networks=NETWORKS)
            (await server.prepare(open_)).commit()
            assert await table(server, "127.0.0.1", question) != [["REFUSED"]] * 3
            (await server.prepare(SPEC)).commit()
            assert await table(server, "127.0.0.1", question) == [["REFUSED"]] * 3

    asyncio.run(scenario())
