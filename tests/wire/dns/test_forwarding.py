"""Which resolver is asked, when a second one is, and what clients get when none has an answer."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from penstock.dns import forwarder as forwarder_module
from penstock.dns.cache import Cache, Entry, entry_of
from penstock.dns.counters import DnsCounters
from penstock.dns.forwarder import Forwarder
from penstock.dns.forwarding_specs import CacheSpec, ForwardingSpec, ForwardZoneSpec
from penstock.dns.wire import Question, read_query, read_response
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, FakeResolver, Script, over_udp, resolving, serving
from support.loop import run

NAME = "www.example.org"
QUICK = 0.15  # seconds for a resolver that is scripted to be silent


def answer(query: dns.message.Message, count: int = 1, ttl: int = 300, rcode: int = 0) -> bytes:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(rcode)
    if not rcode:
        found = [f"192.0.2.{n}" for n in range(count)]
        reply.answer.append(dns.rrset.from_text_list(query.question[0].name, ttl, "IN", "A", found))
    return reply.to_wire(max_size=65535)


def good(query: dns.message.Message, _: str) -> list[bytes]:
    return [answer(query)]


def silent(_: dns.message.Message, __: str) -> list[bytes]:
    return []


def failing(query: dns.message.Message, _: str) -> list[bytes]:
    return [answer(query, rcode=dns.rcode.SERVFAIL)]


def extended_errors(message: dns.message.Message) -> list[int]:
    return [option.code for option in message.options if isinstance(option, dns.edns.EDEOption)]


def question(packet: bytes = packets.edns_query(NAME)) -> Question:
    found = read_query(packet)
    assert isinstance(found, Question)
    return found


def key_of(asked: Question) -> bytes:
    return asked.key + asked.section[-4:] + bytes((asked.do, False))


class Asking:
    """A forwarder before scripted resolvers, with a cache that the test can fill with answers of any age."""

    def __init__(self, resolvers: list[FakeResolver], spec: ForwardingSpec) -> None:
        self.counters = DnsCounters()
        self.cache = Cache(spec.cache)
        self.resolvers = resolvers
        self.forwarder = Forwarder(self.cache, self.counters, QUICK)
        self.forwarder.use(tuple(resolver.address for resolver in resolvers), spec)

    def keep(self, asked: Question, *, age: float, ttl: int = 300) -> Entry:
        query = dns.message.from_wire(packets.query(NAME))
        packet = answer(query, ttl=ttl)
        response = read_response(packet, query.id, asked.section)
        assert response is not None
        entry = entry_of(packet, response, asked, asyncio.get_running_loop().time() - age, self.cache.spec)
        self.cache.put(key_of(asked), entry)
        return entry

    async def ask(self, asked: Question) -> dns.message.Message:
        delivered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        packet = self.forwarder.ask(asked, "udp", 1232, delivered.set_result)
        return dns.message.from_wire(packet or await asyncio.wait_for(delivered, PATIENCE))


def scenario(test: Any, *scripts: Script, spec: ForwardingSpec | None = None) -> None:
    async def inner() -> None:
        async with AsyncExitStack() as stack:
            resolvers = [await stack.enter_async_context(resolving(script)) for script in scripts]
            asking = Asking(resolvers, spec or ForwardingSpec())
            try:
                await test(asking)
            finally:
                await asking.forwarder.stop()

    run(inner())


def test_a_zone_has_resolvers_of_its_own() -> None:
    async def inner() -> None:
        async with resolving(good) as general, resolving(good) as corporate, resolving(good) as nearer:
            zones = (
                ForwardZoneSpec("example.org", (corporate.address,)),
                ForwardZoneSpec("lab.example.org", (nearer.address,)),
            )
            spec = packets.spec(listen=LOCAL, resolvers=(general.address,), forwarding=ForwardingSpec(zones))
            async with serving(spec) as server:
                for name in ("www.example.org", "EXAMPLE.org", "a.lab.example.org", "example.com", "notexample.org"):
                    got = dns.message.from_wire(await over_udp(server.bound[0], packets.query(name)))
                    assert got.rcode() == dns.rcode.NOERROR
                assert [len(resolver.asked) for resolver in (general, corporate, nearer)] == [2, 2, 1]

    run(inner())


def test_with_zones_only_all_other_names_are_refused() -> None:
    async def inner() -> None:
        async with resolving(good) as corporate:
            zones = (ForwardZoneSpec("example.org", (corporate.address,)),)
            async with serving(packets.spec(listen=LOCAL, forwarding=ForwardingSpec(zones))) as server:
                rcodes = [
                    dns.message.from_wire(await over_udp(server.bound[0], packets.query(name))).rcode()
                    for name in ("www.example.org", "www.example.com")
                ]
                assert rcodes == [dns.rcode.NOERROR, dns.rcode.REFUSED]

    run(inner())


class TestCase:
    def test_letters_are_drawn_by_lot_and_clients_see_their_own(self) -> None:
        async def test(asking: Asking) -> None:
            got = await asking.ask(question(packets.query("a" * 60 + ".example.org")))
            assert got.question[0].name.to_text() == "a" * 60 + ".example.org."
            asked = asking.resolvers[0].asked[0][1].question[0].name.to_text()
            assert asked.lower() == "a" * 60 + ".example.org."
            assert asked != asked.lower()

        scenario(test, good)

    def test_a_resolver_that_folds_case_is_believed_over_tcp_and_then_spared(self) -> None:
        def folding(query: dns.message.Message, _: str) -> list[bytes]:
            name = query.question[0].name
            return [answer(query).replace(name.to_wire(), name.canonicalize().to_wire())]

        async def test(asking: Asking) -> None:
            for name in ("a" * 60 + ".example.org", "b" * 60 + ".example.org"):
                got = await asking.ask(question(packets.query(name)))
                assert len(got.answer[0]) == 1
            asked = asking.resolvers[0].asked
            assert [transport for transport, _, _ in asked] == ["udp", "tcp", "udp"]
            assert asked[2][1].question[0].name.to_text().startswith("b" * 60), "asked as the client spelled it"

        scenario(test, folding)

    def test_a_forged_answer_in_another_case_is_not_believed(self) -> None:
        def forged(query: dns.message.Message, transport: str) -> list[bytes]:
            name = query.question[0].name.to_wire()
            return [answer(query, 2).replace(name, name.swapcase())] if transport == "udp" else [answer(query)]

        async def test(asking: Asking) -> None:
            assert len((await asking.ask(question())).answer[0]) == 1

        scenario(test, forged)

    def test_it_can_be_turned_off(self) -> None:
        async def test(asking: Asking) -> None:
            await asking.ask(question(packets.query("a" * 60 + ".Example.org")))
            assert asking.resolvers[0].asked[0][1].question[0].name.to_text() == "a" * 60 + ".Example.org."

        scenario(test, good, spec=ForwardingSpec(mixed_case=False))


class TestSecondResolver:
    def test_it_is_asked_as_well_when_the_first_is_slow(self) -> None:
        async def test(asking: Asking) -> None:
            asking.forwarder.try_timeout = 100 * PATIENCE
            got = await asking.ask(question())
            assert got.rcode() == dns.rcode.NOERROR
            assert asking.counters.forward_hedged == 1
            assert [len(resolver.asked) for resolver in asking.resolvers] == [1, 1]
            # The slow one comes last now.
            await asking.ask(question(packets.query("other.example.org")))
            assert [len(resolver.asked) for resolver in asking.resolvers] == [1, 2]
            assert asking.counters.forward_hedged == 1

        scenario(test, silent, good)

    def test_one_alone_is_not_asked_twice_at_once(self) -> None:
        async def test(asking: Asking) -> None:
            got = await asking.ask(question())
            assert got.rcode() == dns.rcode.SERVFAIL
            assert len(asking.resolvers[0].asked) == 2
            assert asking.counters.forward_hedged == 0

        scenario(test, silent)

    def test_latency_is_counted_by_resolver(self) -> None:
        async def test(asking: Asking) -> None:
            await asking.ask(question())
            host, port = asking.resolvers[0].address
            assert asking.counters.forward_answers == {f"{host}:{port}": 1}
            assert 0 < asking.counters.forward_seconds[f"{host}:{port}"] < PATIENCE

        scenario(test, good)


class TestFailures:
    @pytest.mark.parametrize(("script", "code"), [(failing, 22), (silent, 22)])
    def test_the_client_is_told_why(self, script: Script, code: int) -> None:
        async def test(asking: Asking) -> None:
            got = await asking.ask(question())
            assert (got.rcode(), extended_errors(got)) == (dns.rcode.SERVFAIL, [code])
            plain = await asking.ask(question(packets.query("plain.example.org")))
            assert (plain.rcode(), plain.edns) == (dns.rcode.SERVFAIL, -1), "no OPT unless asked"

        scenario(test, script)

    def test_nobody_there_is_a_network_error(self) -> None:
        async def inner() -> None:
            asking = Asking([], ForwardingSpec())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                free.bind(("127.0.0.1", 0))
                gone = free.getsockname()
            asking.forwarder.use((gone,))
            assert extended_errors(await asking.ask(question())) == [23]
            await asking.forwarder.stop()

        run(inner())

    def test_a_failure_is_remembered_for_a_moment(self) -> None:
        async def test(asking: Asking) -> None:
            await asking.ask(question())
            tries = len(asking.resolvers[0].asked)
            got = await asking.ask(question())
            assert (got.rcode(), extended_errors(got)) == (dns.rcode.SERVFAIL, [13])
            assert len(asking.resolvers[0].asked) == tries
            assert asking.counters.forward_remembered_failures == 1

        scenario(test, failing)

    def test_our_own_question_that_comes_back_ends_it_at_once(self) -> None:
        async def test(asking: Asking) -> None:
            asking.forwarder.try_timeout = 100 * PATIENCE
            asked = question()
            waiting = asyncio.create_task(asking.ask(asked))
            while not asking.resolvers[0].asked:
                await asyncio.sleep(0)
            back = question(asking.resolvers[0].asked[0][1].to_wire())
            for got in (await asking.ask(back), await waiting):
                assert got.rcode() == dns.rcode.SERVFAIL
                assert extended_errors(got) == [0]
            assert asking.counters.forward_loops == 1
            assert len(asking.resolvers[0].asked) == 1

        scenario(test, silent)


class TestStale:
    def test_an_answer_past_its_end_serves_when_no_resolver_does(self) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            asking.keep(asked, age=400)
            got = await asking.ask(asked)
            assert (got.rcode(), extended_errors(got)) == (dns.rcode.NOERROR, [3])
            assert got.answer[0].ttl == 30, "RFC 8767 section 4"
            tries = len(asking.resolvers[0].asked)
            assert tries, "the resolver had its chance first"
            again = await asking.ask(asked)
            assert extended_errors(again) == [3]
            assert len(asking.resolvers[0].asked) == tries, "not asked again for a while"
            assert asking.counters.cache_stale == 2

        scenario(test, failing)

    def test_it_does_not_wait_for_a_slow_resolver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forwarder_module, "STALE_AFTER", 0.01)

        async def test(asking: Asking) -> None:
            asking.forwarder.try_timeout = 100 * PATIENCE
            asked = question()
            asking.keep(asked, age=400)
            assert extended_errors(await asking.ask(asked)) == [3]
            resolver = asking.resolvers[0]
            (_, query, client), *_ = resolver.asked
            resolver.send(answer(query, 2), client)
            await asking.forwarder.drained()
            assert len((await asking.ask(asked)).answer[0]) == 2, "what came late is kept"

        scenario(test, silent)

    def test_a_resolver_that_answers_comes_first(self) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            asking.keep(asked, age=400)
            got = await asking.ask(asked)
            assert (got.answer[0].ttl, extended_errors(got)) == (300, [])

        scenario(test, good)

    @pytest.mark.parametrize(("age", "bound"), [(300 + 3600, 3600), (301, 0)])
    def test_there_is_an_end_to_it(self, age: int, bound: int) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            asking.keep(asked, age=age)
            assert (await asking.ask(asked)).rcode() == dns.rcode.SERVFAIL

        scenario(test, failing, spec=ForwardingSpec(cache=CacheSpec(stale=bound)))

    def test_a_failure_never_covers_a_good_answer(self) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            await asking.ask(asked)  # it fails, and that is remembered
            asking.keep(asked, age=10)
            got = await asking.ask(asked)
            assert (got.rcode(), got.answer[0].ttl) == (dns.rcode.NOERROR, 290)

        scenario(test, failing)


class TestPrefetch:
    def test_a_popular_answer_is_fetched_anew_before_its_end(self) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            asking.keep(asked, age=280)
            for _ in range(2):
                assert (await asking.ask(asked)).answer[0].ttl == 20, "nobody waits for it"
            await asking.forwarder.drained()
            assert len(asking.resolvers[0].asked) == 1
            assert (await asking.ask(asked)).answer[0].ttl == 300
            assert asking.counters.cache_prefetches == 1

        scenario(test, good)

    def test_an_answer_that_is_asked_for_once_is_not(self) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            asking.keep(asked, age=280)
            await asking.ask(asked)
            assert asking.resolvers[0].asked == []

        scenario(test, good)

    def test_one_that_fails_leaves_what_is_there(self) -> None:
        async def test(asking: Asking) -> None:
            asked = question()
            asking.keep(asked, age=280)
            for _ in range(2):
                await asking.ask(asked)
            await asking.forwarder.drained()
            assert (await asking.ask(asked)).answer[0].ttl == 20
            assert asking.counters.cache_prefetches == 1, "not again for a while"

        scenario(test, failing)


class TestPrivateReverse:
    @pytest.mark.parametrize(
        ("name", "qtype", "rcode"),
        [
            ("1.2.3.10.in-addr.arpa", "PTR", "NXDOMAIN"),
            ("5.0.20.172.IN-ADDR.ARPA", "PTR", "NXDOMAIN"),
            ("1.64.100.in-addr.arpa", "PTR", "NXDOMAIN"),
            ("1.0.0.0." + "0." * 24 + "0.0.d.f.ip6.arpa", "PTR", "NXDOMAIN"),
            ("168.192.in-addr.arpa", "NS", "NOERROR"),
            ("10.in-addr.arpa", "SOA", "NOERROR"),
        ],
    )
    def test_names_of_private_addresses_stay_home(self, name: str, qtype: str, rcode: str) -> None:
        async def test(asking: Asking) -> None:
            got = await asking.ask(question(packets.query(name, dns.rdatatype.from_text(qtype))))
            assert got.rcode() == dns.rcode.from_text(rcode)
            soa = (got.answer or got.authority)[0]
            assert (soa.rdtype, soa.ttl) == (dns.rdatatype.SOA, 10800)
            assert name.lower().endswith(soa.name.to_text(omit_final_dot=True).lower())
            assert asking.resolvers[0].asked == []
            assert asking.counters.private_reverse == 1

        scenario(test, good)

    @pytest.mark.parametrize("name", ["1.2.3.11.in-addr.arpa", "1.0.32.172.in-addr.arpa", "1.0.15.172.in-addr.arpa"])
    def test_public_ones_are_asked(self, name: str) -> None:
        async def test(asking: Asking) -> None:
            await asking.ask(question(packets.query(name, 12)))
            assert len(asking.resolvers[0].asked) == 1

        scenario(test, good)

    def test_a_zone_says_whom_to_ask(self) -> None:
        async def test(asking: Asking) -> None:
            resolver = asking.resolvers[0].address
            zones = (ForwardZoneSpec("3.10.in-addr.arpa", (resolver,)),)
            asking.forwarder.use((resolver,), ForwardingSpec(zones))
            for name in ("1.2.3.10.in-addr.arpa", "1.2.4.10.in-addr.arpa"):
                await asking.ask(question(packets.query(name, 12)))
            assert len(asking.resolvers[0].asked) == 1

        scenario(test, good)

    def test_all_may_be_asked_of_others(self) -> None:
        async def test(asking: Asking) -> None:
            await asking.ask(question(packets.query("1.2.3.10.in-addr.arpa", 12)))
            assert len(asking.resolvers[0].asked) == 1

        scenario(test, good, spec=ForwardingSpec(private_reverse=True))


def test_an_answer_of_64_kib_comes_whole_over_tcp() -> None:
    def huge(query: dns.message.Message, transport: str) -> list[bytes]:
        reply = dns.message.make_response(query)
        if transport == "udp":
            reply.flags |= dns.flags.TC
            return [reply.to_wire()]
        texts = [f'"{n:05}{"x" * 240}"' for n in range(250)]
        reply.answer.append(dns.rrset.from_text_list(query.question[0].name, 60, "IN", "TXT", texts))
        return [reply.to_wire(max_size=65535)]

    async def test(asking: Asking) -> None:
        delivered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        asked = question(packets.query(NAME, 16))
        assert asking.forwarder.ask(asked, "tcp", 65535, delivered.set_result) is None
        packet = await asyncio.wait_for(delivered, PATIENCE)
        assert len(packet) > 64000
        assert len(dns.message.from_wire(packet).answer[0]) == 250

    scenario(test, huge)
