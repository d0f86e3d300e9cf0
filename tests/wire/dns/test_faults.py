"""When everything around the server goes wrong: resolvers, clients, sizes, floods."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from penstock.dns import tcp
from penstock.dns.answers import Answers
from penstock.dns.cache import Cache
from penstock.dns.counters import DnsCounters
from penstock.dns.forwarder import Forwarder
from penstock.dns.forwarding_specs import CacheSpec, ForwardingSpec
from penstock.dns.memo import ABSENT_LIMIT
from penstock.dns.responder import Responder
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, RecordSpec, ServiceSpec
from penstock.dns.transport_specs import ResponseRateSpec, TransportSpec
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, over_tcp, over_udp, resolving, serving, udp_client
from support.loop import run

QUICK = 0.15  # seconds for a resolver that is scripted to be silent
LIE = "203.0.113.66"


def read(packet: bytes | None) -> dns.message.Message:
    assert packet is not None
    return dns.message.from_wire(packet)


def answer(query: dns.message.Message, address: str = "192.0.2.1") -> bytes:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "A", address))
    return reply.to_wire()


def good(query: dns.message.Message, _: str) -> list[bytes]:
    return [answer(query)]


def silent(_: dns.message.Message, __: str) -> list[bytes]:
    return []


def lying(query: dns.message.Message, _: str) -> list[bytes]:
    """An id that is off, another name, half a packet, the question itself, and then: not me."""
    other = dns.message.make_query("other.example.net", "A", id=query.id)
    off = dns.message.from_wire(query.to_wire())
    off.id ^= 1
    refused = dns.message.make_response(query)
    refused.set_rcode(dns.rcode.REFUSED)
    said = answer(query, LIE)
    return [answer(off, LIE), answer(other, LIE), said[:-5], query.to_wire(), bytes(12), b"", refused.to_wire()]


class TestResolvers:
    def test_all_dead_is_said_at_once_and_our_own_names_do_not_mind(self) -> None:
        async def scenario() -> None:
            async with AsyncExitStack() as stack:
                async with resolving(good) as first, resolving(good) as second:
                    dead = (first.address, second.address)
                server = await stack.enter_async_context(serving(packets.spec(listen=LOCAL, resolvers=dead)))
                for over in (over_udp, over_tcp):
                    message = read(await over(server.bound[0], packets.edns_query("www.example.org")))
                    assert message.rcode() == dns.rcode.SERVFAIL
                    (why,) = message.options
                    assert isinstance(why, dns.edns.EDEOption)
                    assert why.code in (13, 23)
                    assert read(await over(server.bound[0], packets.query())).answer
                assert server.counters.internal_errors == 0

        run(scenario())

    def test_one_slow_and_one_lying_cost_nobody_an_answer(self) -> None:
        async def scenario() -> None:
            async with AsyncExitStack() as stack:
                scripts = (silent, lying, good)
                resolvers = [await stack.enter_async_context(resolving(script)) for script in scripts]
                spec = packets.spec(listen=LOCAL, resolvers=tuple(each.address for each in resolvers))
                server = await stack.enter_async_context(serving(spec, resolver_timeout=QUICK))

                async def ask(number: int) -> list[str]:
                    packet = await over_udp(server.bound[0], packets.query(f"n{number}.example.org"))
                    return [str(rdata) for rrset in read(packet).answer for rdata in rrset]

                assert await asyncio.gather(*map(ask, range(30))) == [["192.0.2.1"]] * 30
                assert server.counters.forward_ignored >= 5
                assert server.counters.forward_failed == 0
                before = len(resolvers[2].asked)
                assert await asyncio.gather(*map(ask, range(30))) == [["192.0.2.1"]] * 30
                assert len(resolvers[2].asked) == before, "kept"

        run(scenario())


def many(count: int, **others: Any) -> DnsSpec:
    instances = tuple(InstanceSpec(f"i-{n}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 8080) for n in range(count))
    policy = others.pop("policy", "weighted")
    service = ServiceSpec("api", (("A", 60), ("SRV", 60)), policy, instances, **others)
    return DnsSpec(LOCAL, (NamespaceSpec(("services",), (service,)),))


@pytest.mark.parametrize(
    ("max_answers", "addresses", "targets"),
    [(None, 100, 100), (8, 8, 8), (10_000, 65_000 // 16, 65_000 // 40)],
)
def test_ten_thousand_instances_in_one_service(max_answers: int | None, addresses: int, targets: int) -> None:
    """U02: as many as `max_answers`, but never more than fit; and all of them have their turn."""

    async def scenario() -> None:
        async with serving(many(10_000, max_answers=max_answers)) as server:
            small = max_answers == 8
            for rtype, count in (("A", addresses), ("SRV", targets)):
                asked = packets.edns_query("api.services", dns.rdatatype.from_text(rtype))
                over = read(await over_udp(server.bound[0], asked))
                assert bool(over.flags & dns.flags.TC) == (not small)
                assert len(over.question) == 1
                reply = await over_tcp(server.bound[0], asked)
                assert len(reply or b"") <= 65535
                message = read(reply)
                assert not message.flags & dns.flags.TC
                assert abs(len(message.answer[0]) - count) <= count // 25, "names of instances differ in length"
            asked = packets.query("api.services")
            start = len(asked) + 12  # the first record's address
            turns = [await over_tcp(server.bound[0], asked) or b"" for _ in range(50)]
            assert len({reply[start : start + 4] for reply in turns}) == 50, "each has its turn to be first"

    run(scenario())


def test_no_pointer_aims_beyond_what_it_can_reach() -> None:
    """U03: 60 KiB of records with names."""

    async def scenario() -> None:
        async with serving(many(2000, max_answers=1600)) as server:
            reply = await over_tcp(server.bound[0], packets.query("api.services", dns.rdatatype.SRV))
            assert reply is not None
            assert len(reply) > 0x3FFF * 2
            targets = {str(rdata.target) for rdata in read(reply).answer[0]}
            assert len(targets) > 1500
            assert all(target.startswith("i-") and target.endswith(".api.services.") for target in targets)

    run(scenario())


class TestLongRecords:
    @staticmethod
    def spec(count: int) -> DnsSpec:
        values = tuple(f"{n:04}" + "x" * 246 for n in range(count))
        return DnsSpec(LOCAL, (NamespaceSpec(("services",), records=(RecordSpec("long", "TXT", 60, values),)),))

    def test_an_answer_of_63_kib_is_whole_over_tcp_and_truncated_over_udp(self) -> None:
        async def scenario() -> None:
            async with serving(self.spec(246)) as server:
                asked = packets.query("long.services", dns.rdatatype.TXT)
                cut = read(await over_udp(server.bound[0], asked))
                assert cut.flags & dns.flags.TC
                assert not cut.answer
                reply = await over_tcp(server.bound[0], asked)
                assert len(reply or b"") > 64_000
                assert len(read(reply).answer[0]) == 246

        run(scenario())

    def test_what_never_fits_is_said_when_it_is_written(self) -> None:
        with pytest.raises(ValueError, match="record 'long': its 300 values do not fit into an answer"):
            Answers(self.spec(300), lambda _: True, 1)


def test_clients_that_connect_and_say_nothing_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """C06: from one address up to its cap, from all up to everybody's; the longest idle make room."""
    monkeypatch.setattr(tcp, "ADDRESS_LIMIT", 20)
    monkeypatch.setattr(tcp, "CONNECTION_LIMIT", 50)

    async def scenario() -> None:
        async with serving(packets.spec(listen=LOCAL)) as server, AsyncExitStack() as stack:
            silent_ones: list[socket.socket] = []
            for number in range(120):
                here = (f"127.0.1.{number % 4}", 0)
                silent_ones.append(stack.enter_context(socket.create_connection(server.bound[0], 5, here)))
                await asyncio.sleep(0)
            for _ in range(30):
                assert read(await over_udp(server.bound[0], packets.query())).answer
                assert read(await over_tcp(server.bound[0], packets.query())).answer
            assert server.counters.tcp_active <= 50
            silent_ones[0].setblocking(False)
            with suppress(ConnectionResetError):
                assert silent_ones[0].recv(1) == b"", "who came first went first"
            assert server.counters.tcp_refused == 0

    run(scenario())


class TestFloods:
    def test_random_names_of_ours_are_forgotten_and_good_ones_are_not(self) -> None:
        counters = DnsCounters()
        answers = Answers(packets.spec(), lambda _: True, 1)
        responder = Responder(answers, Forwarder(Cache(), counters), counters)

        def ask(name: str) -> bytes:
            reply = responder.respond(packets.query(name), "udp", lambda _: None, "127.0.0.1")
            assert isinstance(reply, bytes)
            return reply

        ask("api.corp.internal")
        for number in range(20_000):
            zone = "corp.internal" if number % 2 else "example.org"
            assert ask(f"x{number}.{zone}")[3] & 0xF == (3 if number % 2 else 5)
        assert responder.memo is not None
        assert len(responder.memo) <= ABSENT_LIMIT + 1
        assert len(answers.absent.remembered or ()) <= ABSENT_LIMIT
        assert len(answers._negatives) < 10
        assert responder.remembered(packets.query()[2:], "127.0.0.1") is not None, "answered from memory still"

    def test_random_names_of_others_fill_the_cache_and_no_more(self) -> None:
        def missing(query: dns.message.Message, _: str) -> list[bytes]:
            name = query.question[0].name
            if str(name).lower().startswith("good"):
                return [answer(query)]
            reply = dns.message.make_response(query)
            reply.set_rcode(dns.rcode.NXDOMAIN)
            soa = dns.rrset.from_text("example.org.", 300, "IN", "SOA", "ns.example.org. root.example.org. 1 2 3 4 60")
            reply.authority.append(soa)
            return [reply.to_wire()]

        async def scenario() -> None:
            async with resolving(missing) as resolver:
                forwarding = ForwardingSpec(cache=CacheSpec(capacity=64 << 10))
                spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,), forwarding=forwarding)
                async with serving(spec) as server, udp_client(server.bound[0]) as (send, replies):
                    for start in range(0, 1500, 50):
                        send(packets.query("good.example.org"))
                        for number in range(start, start + 49):
                            send(packets.query(f"x{number}.example.org"))
                        for _ in range(50):
                            await asyncio.wait_for(replies.get(), PATIENCE)
                    assert server._forwarder._cache.size <= 64 << 10
                    asked = Counter(str(query.question[0].name).lower() for _, query, _ in resolver.asked)
                    assert asked["good.example.org."] == 1, "whoever is asked for stays"
                    assert read(await over_udp(server.bound[0], packets.query())).answer

        run(scenario())

    def test_a_flood_in_somebodys_name_is_not_made_larger(self) -> None:
        """U06: what goes out is at most twice what came in, and one in two is told to come back over TCP."""

        async def scenario() -> None:
            spec = packets.spec(listen=LOCAL, transport=TransportSpec(rate=ResponseRateSpec(5)))
            packet = packets.query(qtype=255)
            async with serving(spec) as server, udp_client(server.bound[0]) as (send, replies):
                for _ in range(20):
                    for _ in range(50):
                        send(packet)
                    await asyncio.sleep(0.01)
                refused = server.counters.refused
                answered = 1000 - refused["response_rate"]
                got = [await asyncio.wait_for(replies.get(), PATIENCE) for _ in range(answered)]
                assert sum(map(len, got)) <= 2 * 1000 * len(packet)
                slipped = sum(bool(reply[2] & 2) for reply in got)
                assert slipped == refused["response_rate_slip"]
                assert abs(slipped - refused["response_rate"]) <= 1
                assert slipped > 300

        run(scenario())


@pytest.mark.parametrize("port", [53, 7, 19])
def test_who_asks_from_a_servers_port_is_answered_and_never_twice(port: int) -> None:
    """U05: two servers must not talk to each other for ever."""

    async def scenario() -> None:
        async with serving(packets.spec(listen=LOCAL)) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                try:
                    sock.bind(("127.0.0.77", port))
                except OSError:
                    pytest.skip(f"needs the right to bind port {port}: run as root")
                sock.connect(server.bound[0])
                loop = asyncio.get_running_loop()
                for _ in range(3):
                    sock.send(packets.query())
                    async with asyncio.timeout(PATIENCE):
                        reply = await loop.sock_recv(sock, 4096)
                    sock.send(reply)  # as a server would that takes it for a question
                sock.send(packets.header(message_id=0xA11E) + packets.question())
                async with asyncio.timeout(PATIENCE):
                    assert (await loop.sock_recv(sock, 4096))[:2] == b"\xa1\x1e"
                assert server.counters.dropped == {"response": 3}

    run(scenario())
