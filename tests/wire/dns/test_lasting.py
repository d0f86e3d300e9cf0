"""A resolver's answers that are remembered whole: the same answer as from the cache, and only for who may have it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import dns.message
import dns.rcode
import dns.rrset

from penstock.dns.cache import entry_of
from penstock.dns.lasting import LIMIT, WANTED, Lasting
from penstock.dns.server import DnsServer
from penstock.dns.wire import Question, read_query, read_response
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, over_udp, resolving, serving
from support.loop import run

QUERY = packets.query("www.example.org")


def good(query: dns.message.Message, _: str) -> list[bytes]:
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 300, "IN", "A", "192.0.2.1"))
    return [reply.to_wire()]


def remembered(server: DnsServer, query: bytes = QUERY, client: str = "127.0.0.1") -> Any:
    return server._responder.remembered(query[2:], client)


def test_answers_are_alike_and_every_one_is_counted() -> None:
    async def scenario() -> None:
        async with (
            resolving(good) as resolver,
            serving(packets.spec(listen=LOCAL, resolvers=(resolver.address,))) as server,
        ):
            answers = [await over_udp(server.bound[0], bytes((9, n)) + QUERY[2:]) for n in range(6)]
            assert remembered(server) is not None
            assert [answer[:2] for answer in answers] == [bytes((9, n)) for n in range(6)]
            assert {dns.message.from_wire(answer).answer[0].ttl for answer in answers} <= {299, 300}
            assert len({answer[2:12] for answer in answers}) == 1
            assert len(resolver.asked) == 1
            assert server.counters.cache_hits == 5
            assert server.counters.queries == {("udp", "A"): 6}
            (await server.prepare(packets.spec(listen=LOCAL, resolvers=(resolver.address,)))).commit()
            assert remembered(server) is None, "another configuration"
            assert await over_udp(server.bound[0], QUERY)
            assert len(resolver.asked) == 1, "the cache has it still"

    run(scenario())


def test_what_one_client_may_have_is_refused_to_the_next() -> None:
    async def scenario() -> None:
        async with resolving(good) as resolver:
            spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,), recursion=("127.0.0.1/32",))
            async with serving(spec) as server:
                for _ in range(4):
                    assert dns.message.from_wire(await over_udp(server.bound[0], QUERY)).answer
                assert remembered(server) is not None
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
                    stranger.bind(("127.0.0.2", 0))
                    stranger.connect(server.bound[0])
                    for _ in range(3):
                        stranger.send(QUERY)
                        loop = asyncio.get_running_loop()
                        answer = await asyncio.wait_for(loop.sock_recv(stranger, 4096), PATIENCE)
                        assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED
                assert server.counters.refused["recursion"] == 3

    run(scenario())


def test_mixed_case_is_answered_as_it_was_asked_and_not_remembered() -> None:
    async def scenario() -> None:
        async with (
            resolving(good) as resolver,
            serving(packets.spec(listen=LOCAL, resolvers=(resolver.address,))) as server,
        ):
            mixed = packets.query("wWw.eXample.org")
            for _ in range(4):
                assert (await over_udp(server.bound[0], mixed))[12 : len(mixed)] == mixed[12:]
            assert remembered(server, mixed) is None
            assert len(resolver.asked) == 1

    run(scenario())


def asked() -> Question:
    question = read_query(QUERY)
    assert isinstance(question, Question)
    return question


def entry(question: Question, now: float, hits: int = WANTED) -> Any:
    packet = good(dns.message.from_wire(QUERY), "udp")[0]
    response = read_response(packet, 0x1234, question.section)
    assert response is not None
    found = entry_of(packet, response, question, now)
    found.hits = hits
    return found


def test_ttls_go_down_and_what_ends_soon_is_left_to_the_cache() -> None:
    async def scenario() -> None:
        lasting, question = Lasting(), asked()
        now = asyncio.get_running_loop().time()
        for age, hits, worth in ((0, WANTED, True), (100, WANTED, True), (100, WANTED - 1, False), (267, 9, False)):
            reply = lasting.reply(question, 512, entry(question, now - age, hits), now)
            assert (reply is not None) == worth, age
            if reply is not None:
                (rrset,) = dns.message.from_wire(b"\0\0" + reply.head + reply.tail()).answer
                assert 299 - age <= rrset.ttl <= 300 - age
        assert lasting.reply(question, 30, entry(question, now), now) is None, "it does not fit"
        lasting.clear()

    run(scenario())


def test_what_is_over_is_forgotten_and_gives_its_room_back() -> None:
    async def scenario() -> None:
        over: list[Any] = []
        lasting, question = Lasting(), asked()
        lasting.use(over.extend)
        now = asyncio.get_running_loop().time()
        known = entry(question, now)
        replies = [lasting.reply(question, 512, known, now) for _ in range(LIMIT)]
        assert lasting.reply(question, 512, known, now) is None, "there is no room"
        kept, ended, *_ = [reply.depends[0] for reply in replies if reply is not None]
        for each in (kept, ended):
            each.remembered = {b"key"}
        lasting._ends[ended] = now
        lasting._sweep()
        assert ended in over
        assert kept not in over
        assert len(over) == LIMIT - 1, "nobody remembered the others"
        assert lasting.reply(question, 512, known, now) is not None
        lasting.clear()

    run(scenario())
