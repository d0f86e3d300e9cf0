"""What is not ours, asked of resolvers that are scripted to misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest

from penstock.dns import forwarder
from penstock.dns.server import DnsServer
from support import dns_packets as packets
from support.dns_net import (
    LOCAL,
    PATIENCE,
    Script,
    ended,
    framed,
    over_tcp,
    over_udp,
    read_framed,
    resolving,
    serving,
    tcp_client,
    udp_client,
)
from support.loop import run

NAME = "www.example.org"
QUICK = 0.15  # seconds for a resolver that is scripted to be silent


def answer(query: dns.message.Message, count: int = 1, rcode: int = 0, ttl: int = 300) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(rcode)
    if rcode == dns.rcode.NOERROR:
        found = [f"192.0.2.{n}" for n in range(count)]
        reply.answer.append(dns.rrset.from_text_list(query.question[0].name, ttl, "IN", "A", found))
    return reply


def good(query: dns.message.Message, _: str) -> list[bytes]:
    return [answer(query).to_wire()]


def silent(_: dns.message.Message, __: str) -> list[bytes]:
    return []


def failing(rcode: int) -> Script:
    return lambda query, _: [answer(query, rcode=rcode).to_wire()]


def ask(
    *scripts: Script, packet: bytes = packets.query(NAME), transport: str = "udp"
) -> tuple[dns.message.Message, list[Any], DnsServer]:
    """One question to a server whose resolvers follow these scripts: its answer, what the resolvers saw, the server."""

    async def scenario() -> tuple[dns.message.Message, list[Any], DnsServer]:
        async with AsyncExitStack() as stack:
            resolvers = [await stack.enter_async_context(resolving(script)) for script in scripts]
            spec = packets.spec(listen=LOCAL, resolvers=tuple(resolver.address for resolver in resolvers))
            server = await stack.enter_async_context(serving(spec, resolver_timeout=QUICK))
            reply = await (over_udp if transport == "udp" else over_tcp)(server.bound[0], packet)
            assert reply is not None
            return dns.message.from_wire(reply), [resolver.asked for resolver in resolvers], server

    return run(scenario())


def test_a_foreign_name_is_asked_and_relayed() -> None:
    got, [asked], server = ask(good)
    assert [str(rdata) for rdata in got.answer[0]] == ["192.0.2.0"]
    assert got.answer[0].ttl == 300
    assert got.edns == -1, "no OPT for a client that sent none"
    ((_, query, _),) = asked
    assert query.flags & dns.flags.RD
    assert query.edns == 0
    assert server.counters.forwarded == 1
    assert server.counters.queries["udp", "A"] == 1


def test_our_own_names_are_not_asked() -> None:
    got, [asked], _ = ask(good, packet=packets.query("nope.corp.internal"))
    assert got.rcode() == dns.rcode.NXDOMAIN
    assert asked == []


@pytest.mark.parametrize(
    "packet",
    [packets.query(NAME, flags=0), packets.query(NAME, qclass=3), packets.query(NAME, 252)],
    ids=["RD=0", "class CH", "AXFR"],
)
def test_what_is_not_forwarded_is_refused(packet: bytes) -> None:
    got, [asked], _ = ask(good, packet=packet)
    assert got.rcode() == dns.rcode.REFUSED
    assert asked == []


def wrong_id(query: dns.message.Message) -> bytes:
    reply = answer(query, 2)
    reply.id ^= 1
    return reply.to_wire()


def wrong_name(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("other.example.org", "A", id=query.id)
    return answer(other, 2).to_wire()


def cut_off(query: dns.message.Message) -> bytes:
    return answer(query, 2).to_wire()[:-3]


@pytest.mark.parametrize("spoof", [wrong_id, wrong_name, cut_off, lambda query: query.to_wire(), lambda _: b"x"])
def test_what_is_not_the_answer_is_ignored_and_the_timer_goes_on(spoof: Callable[[Any], bytes]) -> None:
    got, [asked], _ = ask(lambda query, _: [spoof(query), answer(query).to_wire()])
    assert [str(rdata) for rdata in got.answer[0]] == ["192.0.2.0"]
    assert len(asked) == 1


def test_an_answer_from_another_address_is_not_heard() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        stranger, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        spoofed = False

        def script(query: dns.message.Message, _: str) -> list[bytes]:
            nonlocal spoofed
            spoofed = True
            stranger.sendto(answer(query, 2).to_wire(), resolver.asked[-1][2])
            return [answer(query).to_wire()]

        async with (
            resolving(script) as resolver,
            serving(packets.spec(listen=LOCAL, resolvers=(resolver.address,))) as server,
        ):
            got = dns.message.from_wire(await over_udp(server.bound[0], packets.query(NAME)))
        stranger.close()
        assert spoofed
        assert len(got.answer[0]) == 1

    run(scenario())


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_a_resolver_that_fails_is_followed_by_the_next(rcode: int) -> None:
    got, [first, second], _ = ask(failing(rcode), good)
    assert got.rcode() == dns.rcode.NOERROR
    assert len(first) >= 1
    assert len(second) == 1


def test_a_silent_resolver_is_followed_by_the_next() -> None:
    got, [first, second], _ = ask(silent, good)
    assert got.rcode() == dns.rcode.NOERROR
    assert (len(first), len(second)) == (1, 1)


def test_a_lost_datagram_is_sent_again() -> None:
    seen: list[int] = []

    def script(query: dns.message.Message, _: str) -> list[bytes]:
        seen.append(query.id)
        return [] if len(seen) == 1 else [answer(query).to_wire()]

    got, [asked], _ = ask(script)
    assert got.rcode() == dns.rcode.NOERROR
    assert len(asked) == 2
    assert len({client for _, _, client in asked}) == 2, "each try comes from a port of its own"


@pytest.mark.parametrize("scripts", [(silent,), (failing(2), failing(5)), (silent, failing(2))])
def test_when_all_fail_the_client_is_told(scripts: tuple[Script, ...]) -> None:
    got, _, server = ask(*scripts)
    assert got.rcode() == dns.rcode.SERVFAIL
    assert len(got.question) == 1
    assert server.counters.forward_failed == 1


def test_a_resolver_that_is_not_there_is_told_by_the_kernel_not_by_the_clock() -> None:
    async def scenario() -> None:
        async with resolving(good) as gone:
            pass
        async with resolving(good) as alive:
            spec = packets.spec(listen=LOCAL, resolvers=(gone.address, alive.address))
            async with serving(spec, resolver_timeout=PATIENCE * 2) as server:
                got = dns.message.from_wire(await over_udp(server.bound[0], packets.query(NAME)))
                assert got.rcode() == dns.rcode.NOERROR

    run(scenario())


def test_a_resolver_without_edns_is_asked_without() -> None:
    def script(query: dns.message.Message, _: str) -> list[bytes]:
        if query.edns >= 0:
            return [packets.header(0x8181, (0, 0, 0, 0), query.id)]
        return [answer(query).to_wire()]

    got, [asked], _ = ask(script)
    assert got.rcode() == dns.rcode.NOERROR
    assert [query.edns for _, query, _ in asked] == [0, -1]


class TestTruncation:
    @staticmethod
    def large(query: dns.message.Message, transport: str) -> list[bytes]:
        if transport == "tcp":
            return [answer(query, 100).to_wire(max_size=65535)]
        reply = answer(query)
        reply.flags |= dns.flags.TC
        return [reply.to_wire()]

    def test_a_truncated_answer_is_fetched_over_tcp(self) -> None:
        got, [asked], _ = ask(self.large, transport="tcp")
        assert len(got.answer[0]) == 100
        assert [transport for transport, _, _ in asked] == ["udp", "tcp"]

    def test_a_udp_client_is_told_to_come_back(self) -> None:
        got, _, server = ask(self.large)
        assert got.flags & dns.flags.TC
        assert got.question
        assert not got.answer
        assert server.counters.truncated == 1

    def test_tcp_that_fails_is_a_failed_resolver(self) -> None:
        def no_tcp(query: dns.message.Message, transport: str) -> list[bytes]:
            return self.large(query, transport) if transport == "udp" else []

        got, _, _ = ask(no_tcp, good)
        assert len(got.answer[0]) == 1


def test_a_hundred_clients_with_one_question_ask_once() -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        def script(*_: Any) -> list[bytes]:
            release.set()
            return []

        async with resolving(script) as resolver:
            spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
            async with serving(spec) as server, udp_client(server.bound[0]) as (send, replies):
                for number in range(100):
                    name = NAME if number % 2 else NAME.upper()
                    send(packets.header(message_id=number) + packets.question(name))
                await asyncio.wait_for(release.wait(), PATIENCE)
                while server.counters.forward_coalesced < 99:
                    await asyncio.sleep(0)
                ((_, query, client),) = resolver.asked
                resolver.send(answer(query).to_wire(), client)
                got = [await asyncio.wait_for(replies.get(), PATIENCE) for _ in range(100)]
                assert {int.from_bytes(packet[:2]) for packet in got} == set(range(100))
                for packet in got:
                    number = int.from_bytes(packet[:2])
                    assert packet[12:].startswith(packets.wire_name(NAME if number % 2 else NAME.upper()))
                assert server.counters.forwarded == 1

    run(scenario())


def test_an_answer_is_kept_and_survives_a_reload() -> None:
    async def scenario() -> None:
        async with resolving(good) as resolver:
            spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
            async with serving(spec) as server:
                for _ in range(2):
                    await over_udp(server.bound[0], packets.query(NAME))
                (await server.prepare(spec)).commit()
                await over_udp(server.bound[0], packets.query(NAME.upper()))
                assert len(resolver.asked) == 1
                assert (server.counters.cache_hits, server.counters.cache_misses) == (2, 1)
                # DO asks for other records, so it is another question.
                await over_udp(server.bound[0], packets.edns_query(NAME, ttl=0x8000))
                assert len(resolver.asked) == 2
                assert resolver.asked[1][1].ednsflags & dns.flags.DO

    run(scenario())


def test_additional_records_of_strangers_are_not_relayed() -> None:
    def script(query: dns.message.Message, _: str) -> list[bytes]:
        reply = answer(query)
        reply.additional.append(dns.rrset.from_text("bank.example.", 300, "IN", "A", "192.0.2.66"))
        return [reply.to_wire()]

    got, _, _ = ask(script)
    assert got.answer
    assert not got.additional


def test_ad_is_not_repeated_because_nobody_here_validated() -> None:
    def script(query: dns.message.Message, _: str) -> list[bytes]:
        reply = answer(query)
        reply.flags |= dns.flags.AD | dns.flags.AA
        return [reply.to_wire()]

    got, _, _ = ask(script)
    assert not got.flags & (dns.flags.AD | dns.flags.AA)


def test_forwarding_to_ourselves_is_refused_when_it_is_configured() -> None:
    async def scenario() -> None:
        async with serving(packets.spec(listen=(*LOCAL, ("0.0.0.0", 0)))) as server:
            (_, one), (_, other) = server.bound
            for resolver in (("127.0.0.1", one), ("127.0.0.9", other)):
                spec = packets.spec(listen=(*LOCAL, ("0.0.0.0", 0)), resolvers=(resolver,))
                with pytest.raises(ValueError, match="is this server itself"):
                    await server.prepare(spec)
            assert len(server.bound) == 2

    run(scenario())


def test_a_loop_through_another_server_makes_no_storm() -> None:
    async def scenario() -> None:
        async with serving(packets.spec(listen=LOCAL), resolver_timeout=QUICK) as server:

            def script(query: dns.message.Message, _: str) -> list[bytes]:
                asyncio.get_running_loop().call_soon(bounce, query.to_wire())
                return []

            async with resolving(script) as resolver, udp_client(server.bound[0]) as (bounce, _):
                (await server.prepare(packets.spec(listen=LOCAL, resolvers=(resolver.address,)))).commit()
                got = dns.message.from_wire(await over_udp(server.bound[0], packets.query(NAME)))
                assert got.rcode() == dns.rcode.SERVFAIL
                assert len(resolver.asked) <= 2

    run(scenario())


def test_with_too_many_questions_under_way_the_next_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "IN_FLIGHT_LIMIT", 1)

    async def scenario() -> None:
        async with resolving(silent) as resolver:
            spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
            async with serving(spec) as server, udp_client(server.bound[0]) as (send, _):
                send(packets.query(NAME))
                while not resolver.asked:
                    await asyncio.sleep(0)
                got = dns.message.from_wire(await over_udp(server.bound[0], packets.query("other.example.org")))
                assert got.rcode() == dns.rcode.SERVFAIL
                assert addresses_of_ours(await over_udp(server.bound[0], packets.query())) == 2

    run(scenario())


def addresses_of_ours(packet: bytes) -> int:
    return sum(map(len, dns.message.from_wire(packet).answer))


def test_whoever_waits_when_the_server_stops_is_answered() -> None:
    async def scenario() -> None:
        async with resolving(silent) as resolver:
            spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
            async with (
                serving(spec) as server,
                udp_client(server.bound[0]) as (send, replies),
                tcp_client(server.bound[0]) as (reader, writer),
            ):
                send(packets.query(NAME))
                writer.write(framed(packets.query(NAME)))
                while not server.counters.forward_coalesced:
                    await asyncio.sleep(0)
                await server.stop(0)
                for packet in (await asyncio.wait_for(replies.get(), PATIENCE), await read_framed(reader)):
                    assert dns.message.from_wire(packet).rcode() == dns.rcode.SERVFAIL
                assert await ended(reader) == b""


def test_a_stopping_server_gives_questions_under_way_their_time() -> None:
    async def scenario() -> None:
        def late(query: dns.message.Message, _: str) -> list[bytes]:
            asyncio.get_running_loop().call_later(0.05, resolver.send, answer(query).to_wire(), resolver.asked[-1][2])
            return []

        async with resolving(late) as resolver:
            spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
            async with serving(spec) as server, udp_client(server.bound[0]) as (send, replies):
                send(packets.query(NAME))
                while not resolver.asked:
                    await asyncio.sleep(0)
                await server.stop(PATIENCE)
                got = dns.message.from_wire(await asyncio.wait_for(replies.get(), PATIENCE))
                assert got.rcode() == dns.rcode.NOERROR

    run(scenario())
