"""The DNS server over real sockets: what clients, hostile ones and reloads do to it."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import subprocess
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from penstock.dns import tcp
from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, ServiceSpec
from support import dns_packets as packets
from support.dns_net import (
    LOCAL,
    PATIENCE,
    Health,
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
from support.tools import free_port, need_tool

SPEC = packets.spec(listen=LOCAL)


def addresses(packet: bytes) -> list[str]:
    return [str(rdata) for rrset in dns.message.from_wire(packet).answer for rdata in rrset]


def test_every_packet_of_the_table_over_udp() -> None:
    """One socket sends them all; a question after each shows that the server lives, and that silence was silence."""

    async def scenario() -> None:
        async with serving(SPEC) as server, udp_client(server.bound[0]) as (send, replies):
            for case in packets.CASES:
                send(case.packet)
                alive = packets.header(message_id=0xA11E) + packets.question()
                send(alive)
                got = [await asyncio.wait_for(replies.get(), PATIENCE)]
                if case.rcode is not None:
                    got.append(await asyncio.wait_for(replies.get(), PATIENCE))
                packets.check(case, got[0] if case.rcode is not None else None)
                assert got[-1][:2] == alive[:2], case.name
                assert replies.empty()
            assert server.counters.internal_errors == 0
            assert server.counters.dropped == {"short": 2, "response": 1}

    run(scenario())


def test_every_packet_of_the_table_over_tcp() -> None:
    async def scenario() -> None:
        async with serving(SPEC) as server:
            for case in packets.CASES:
                packets.check(case, await over_tcp(server.bound[0], case.packet), transport="tcp")
            assert server.counters.internal_errors == 0

    run(scenario())


def test_a_remembered_answer_is_the_same_as_the_first_but_for_id_and_turn() -> None:
    async def scenario() -> None:
        async with serving(SPEC) as server:
            for name in ("aPi.corp.internal", "nope.corp.internal", "corp.internal"):
                query = packets.query(name)
                first = await over_udp(server.bound[0], query)
                again = await over_udp(server.bound[0], b"\xab\xcd" + query[2:])
                assert again[:2] == b"\xab\xcd"
                assert again[2 : len(query)] == first[2 : len(query)]
                assert sorted(addresses(again)) == sorted(addresses(first))
            assert server.counters.queries == {("udp", "A"): 6}
            assert server.counters.responses == {"NOERROR": 4, "NXDOMAIN": 2}
            assert server.counters.responses == {"NOERROR": 4, "NXDOMAIN": 2}, "reading does not count"

    run(scenario())


def weighted(*weights: int, name: str = "api") -> DnsSpec:
    instances = tuple(
        InstanceSpec(f"i-{n}", f"10.0.0.{n}", 80, weight=weight, health_key=n) for n, weight in enumerate(weights)
    )
    service = ServiceSpec(name, (("A", 17),), "weighted", instances)
    return DnsSpec(LOCAL, (NamespaceSpec(("services",), (service,)),))


def test_ten_thousand_queries_are_shared_three_to_one_with_the_ttl_configured() -> None:
    async def scenario() -> None:
        firsts: Counter[str] = Counter()
        async with serving(weighted(3, 1)) as server, udp_client(server.bound[0]) as (send, replies):
            for start in range(0, 10_000, 50):
                for number in range(start, start + 50):
                    send(packets.header(message_id=number) + packets.question("api.services"))
                for _ in range(50):
                    packet = await asyncio.wait_for(replies.get(), PATIENCE)
                    firsts[socket.inet_ntoa(packet[30 + 12 : 30 + 16])] += 1
        assert sum(firsts.values()) == 10_000
        assert abs(firsts["10.0.0.0"] / 10_000 - 0.75) < 0.02
        assert dns.message.from_wire(packet).answer[0].ttl == 17

    run(scenario())


def test_health_changes_the_next_answer() -> None:
    async def scenario() -> None:
        health = Health()
        async with serving(weighted(1, 1, 0), health=health) as server:

            async def now() -> list[str]:
                return sorted(addresses(await over_udp(server.bound[0], packets.query("api.services"))))

            async def mark(*sick: int) -> list[str]:
                changed = health.sick ^ set(sick)
                health.sick = set(sick)
                server.health_changed(changed)
                return await now()

            assert await now() == ["10.0.0.0", "10.0.0.1"]
            assert await mark(0) == ["10.0.0.1"]
            assert await mark(0, 1) == ["10.0.0.2"], "the standby"
            assert await mark(0, 1, 2) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"], "fail open"
            assert await mark() == ["10.0.0.0", "10.0.0.1"]

    run(scenario())


def test_health_that_changes_between_prepare_and_commit_is_not_missed() -> None:
    async def scenario() -> None:
        health = Health()
        async with serving(DnsSpec(LOCAL), health=health) as server:
            prepared = await server.prepare(weighted(1, 1))
            health.sick.add(0)
            server.health_changed([0])
            prepared.commit()
            assert addresses(await over_udp(server.bound[0], packets.query("api.services"))) == ["10.0.0.1"]

    run(scenario())


class TestStreams:
    def test_however_the_bytes_are_split(self) -> None:
        async def scenario() -> None:
            stream = b"".join(framed(packets.header(message_id=n) + packets.question()) for n in range(3))
            async with serving(SPEC) as server:
                for size in (1, 2, 3, 7, len(stream) - 1):
                    async with tcp_client(server.bound[0]) as (reader, writer):
                        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        for at in range(0, len(stream), size):
                            writer.write(stream[at : at + size])
                            await writer.drain()
                            await asyncio.sleep(0)
                        got = [await read_framed(reader) for _ in range(3)]
                        assert [int.from_bytes(packet[:2]) for packet in got] == [0, 1, 2]

        run(scenario())

    def test_many_queries_at_once(self) -> None:
        async def scenario() -> None:
            stream = b"".join(framed(packets.header(message_id=n) + packets.question()) for n in range(1000))
            async with serving(SPEC) as server, tcp_client(server.bound[0]) as (reader, writer):
                writer.write(stream)
                got = {(await read_framed(reader))[:2] for _ in range(1000)}
                assert len(got) == 1000

        run(scenario())

    def test_a_half_closed_client_gets_its_answers_and_then_the_end(self) -> None:
        async def scenario() -> None:
            def slow(query: dns.message.Message, _: str) -> list[bytes]:
                asyncio.get_running_loop().call_later(
                    0.05, resolver.send, dns.message.make_response(query).to_wire(), resolver.asked[-1][2]
                )
                return []

            async with resolving(slow) as resolver:
                spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
                async with serving(spec) as server, tcp_client(server.bound[0]) as (reader, writer):
                    writer.write(framed(packets.query("example.org")) + framed(packets.query()))
                    writer.write_eof()
                    assert addresses(await read_framed(reader)), "ours is not held up by the forwarded one"
                    assert not addresses(await read_framed(reader))
                    assert await reader.read() == b""

        run(scenario())

    @pytest.mark.parametrize("stream", [b"\0\0", b"\0\5abcde", framed(packets.query(flags=0x8180))])
    def test_what_is_not_a_query_closes_the_connection(self, stream: bytes) -> None:
        async def scenario() -> None:
            async with serving(SPEC) as server, tcp_client(server.bound[0]) as (reader, writer):
                writer.write(stream)
                assert await ended(reader) == b""

        run(scenario())

    def test_silence_and_a_byte_now_and_then_end_after_the_idle_timeout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "IDLE_TIMEOUT", 0.3)

        async def scenario() -> None:
            async with serving(SPEC) as server, tcp_client(server.bound[0]) as (reader, writer):
                end = asyncio.ensure_future(ended(reader))
                writer.write(b"\xff\xff")
                while not end.done():
                    writer.write(b"x")
                    await asyncio.wait([end], timeout=0.05)
                assert end.result() == b""
                assert server.counters.tcp_active == 0

        run(scenario())

    def test_a_client_that_never_reads_is_not_read_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It fills its own buffers and ours up to the cap; then it waits, and after the timeout it is gone."""
        monkeypatch.setattr(tcp, "IDLE_TIMEOUT", 0.5)

        async def scenario() -> None:
            big = framed(packets.query("big.corp.internal")) * 1000
            async with serving(SPEC) as server, tcp_client(server.bound[0]) as (_, writer):
                writer.transport.pause_reading()
                async with asyncio.timeout(PATIENCE):
                    while not writer.transport.is_closing() and server.counters.tcp_active:
                        writer.write(big)
                        await asyncio.sleep(0.01)
                    while server.counters.tcp_active:
                        await asyncio.sleep(0.01)
                assert server.counters.queries["tcp", "A"] < 20_000
                assert addresses(await over_udp(server.bound[0], packets.query())), "UDP does not mind"

        run(scenario())

    def test_one_address_has_a_limited_number_of_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "ADDRESS_LIMIT", 3)

        async def scenario() -> None:
            async with serving(SPEC) as server:
                opened = AsyncExitStack()
                clients = [await opened.enter_async_context(tcp_client(server.bound[0])) for _ in range(3)]
                for reader, writer in clients[1:]:
                    writer.write(framed(packets.query()))
                    await read_framed(reader)
                reader, writer = await opened.enter_async_context(tcp_client(server.bound[0]))
                writer.write(framed(packets.query()))
                assert addresses(await read_framed(reader))
                assert await ended(clients[0][0]) == b"", "the one that has been idle longest made room"
                assert server.counters.tcp_active == 3
                await opened.aclose()

        run(scenario())

    def test_with_all_places_busy_a_newcomer_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "CONNECTION_LIMIT", 1)

        async def scenario() -> None:
            async with resolving(lambda *_: []) as resolver:
                spec = packets.spec(listen=LOCAL, resolvers=(resolver.address,))
                async with serving(spec) as server, tcp_client(server.bound[0]) as (_, writer):
                    writer.write(framed(packets.query("example.org")))
                    while not resolver.asked:
                        await asyncio.sleep(0)
                    assert await over_tcp(server.bound[0], packets.query()) is None
                    assert server.counters.tcp_refused == 1

        run(scenario())


class TestAddresses:
    def test_port_0_is_one_port_for_both(self) -> None:
        async def scenario() -> None:
            async with serving(packets.spec(listen=(("127.0.0.1", 0), ("::1", 0)))) as server:
                assert [host for host, _ in server.bound] == ["127.0.0.1", "::1"]
                for endpoint in server.bound:
                    assert addresses(await over_udp(endpoint, packets.query()))
                    tcp_reply = await over_tcp(endpoint, packets.query())
                    assert tcp_reply is not None
                    assert addresses(tcp_reply)

        run(scenario())

    @pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "127.0.0.9"), ("::", "::1")])
    def test_a_wildcard_answers_from_the_address_that_was_asked(self, wildcard: str, asked: str) -> None:
        async def scenario() -> None:
            async with serving(packets.spec(listen=((wildcard, 0),))) as server:
                (_, port) = server.bound[0]
                for _ in range(2):  # looked up, and remembered
                    assert addresses(await over_udp((asked, port), packets.query())), "a connected socket heard it"

        run(scenario())

    @pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
    def test_a_port_in_use_is_said_with_the_address_and_nothing_stays_open(self, kind: socket.SocketKind) -> None:
        port = free_port()
        with socket.socket(socket.AF_INET, kind) as holder:
            holder.bind(("127.0.0.1", port))
            if kind == socket.SOCK_STREAM:
                holder.listen()

            async def scenario() -> None:
                async with serving(SPEC) as server:
                    before = server.bound
                    with pytest.raises(OSError, match=f"127.0.0.1:{port}") as raised:
                        await server.prepare(packets.spec(listen=(*LOCAL, ("127.0.0.1", port))))
                    assert raised.value.errno == errno.EADDRINUSE
                    assert server.bound == before

            run(scenario())

    def test_an_address_that_is_not_here_is_said(self) -> None:
        async def scenario() -> None:
            server = DnsServer(Health())
            with pytest.raises(OSError, match=r"192\.0\.2\.1:0/udp"):
                await server.prepare(DnsSpec(listen=(("192.0.2.1", 0),)))
            await server.stop(0)

        run(scenario())

    def test_a_source_port_of_0_is_survived(self) -> None:
        try:
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        except PermissionError:
            pytest.skip("needs the right to open a raw socket: run as root")

        async def scenario() -> None:
            async with serving(SPEC) as server:
                query = packets.query()
                _, port = server.bound[0]
                raw.sendto(struct.pack("!HHHH", 0, port, 8 + len(query), 0) + query, ("127.0.0.1", 0))
                assert addresses(await over_udp(server.bound[0], query))
                assert server.counters.send_failed == {"EINVAL": 1}

        with raw:
            run(scenario())


class TestReload:
    def test_what_stays_is_not_touched_and_what_goes_is_closed(self) -> None:
        async def scenario() -> None:
            other = ("127.0.0.2", 0)
            async with serving(weighted(1)) as server, tcp_client(server.bound[0]) as (reader, writer):
                stays = server.bound[0]
                writer.write(framed(packets.query("api.services")))
                assert addresses(await read_framed(reader)) == ["10.0.0.0"]

                more = weighted(1, 1)
                more = DnsSpec((*more.listen, other), more.namespaces)
                (await server.prepare(more)).commit()
                assert server.bound[0] == stays
                for endpoint in server.bound:
                    assert len(addresses(await over_udp(endpoint, packets.query("api.services")))) == 2
                writer.write(framed(packets.query("api.services")))
                assert len(addresses(await read_framed(reader))) == 2, "the connection lived on"

                gone = server.bound[1]
                (await server.prepare(weighted(1, 1))).commit()
                assert server.bound == [stays]
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(*gone)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
                    free.bind(gone)

        run(scenario())

    def test_an_aborted_reload_changes_nothing(self) -> None:
        async def scenario() -> None:
            port = free_port("127.0.0.2")
            async with serving(weighted(1)) as server:
                before = server.bound
                more = weighted(1, 1)
                prepared = await server.prepare(DnsSpec((*more.listen, ("127.0.0.2", port)), more.namespaces))
                assert server.bound == before
                prepared.abort()
                assert len(addresses(await over_udp(server.bound[0], packets.query("api.services")))) == 1
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
                    free.bind(("127.0.0.2", port))

        run(scenario())

    def test_no_query_is_lost_over_twenty_reloads(self) -> None:
        async def scenario() -> None:
            async with serving(weighted(1)) as server, udp_client(server.bound[0]) as (send, replies):
                for turn in range(20):
                    for number in range(20):
                        send(packets.header(message_id=turn << 8 | number) + packets.question("api.services"))
                    (await server.prepare(weighted(*[1] * (turn % 3 + 1)))).commit()
                    got = [await asyncio.wait_for(replies.get(), PATIENCE) for _ in range(20)]
                    assert {packet[1] for packet in got} == set(range(20))
                    assert all(addresses(packet) for packet in got)

        run(scenario())


class TestDig:
    """The client that people use, against the server as it runs."""

    @staticmethod
    async def dig(server: DnsServer, *arguments: str) -> str:
        host, port = server.bound[0]
        process = await asyncio.create_subprocess_exec(
            *(
                need_tool("dig", package="bind9-dnsutils"),
                f"@{host}",
                "-p",
                str(port),
                "+tries=1",
                "+time=5",
                *arguments,
            ),
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    @pytest.mark.parametrize(
        ("arguments", "lines"),
        [
            (("api.corp.internal",), ["10.0.1.10", "10.0.1.11"]),
            (("api.corp.internal", "+tcp"), ["10.0.1.10", "10.0.1.11"]),
            (("api.corp.internal", "+noedns"), ["10.0.1.10", "10.0.1.11"]),
            (
                ("_http._tcp.api.corp.internal", "SRV"),
                ["1 1 8080 i-1.api.corp.internal.", "1 1 8080 i-2.api.corp.internal."],
            ),
            (("-x", "10.0.1.11"), ["i-2.api.corp.internal."]),
            (("api.corp.internal", "AAAA"), []),
        ],
    )
    def test_short_answers(self, arguments: tuple[str, ...], lines: list[str]) -> None:
        async def scenario() -> None:
            async with serving(SPEC) as server:
                assert sorted((await self.dig(server, "+short", *arguments)).splitlines()) == lines

        run(scenario())

    def test_a_large_answer_comes_over_tcp_by_itself(self) -> None:
        async def scenario() -> None:
            async with serving(SPEC) as server:
                out = await self.dig(server, "big.corp.internal")
                assert "Truncated, retrying in TCP mode" in out
                assert "ANSWER: 100" in out

        run(scenario())

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("+edns=100", "+noednsneg"), "status: BADVERS"),
            (("+ednsopt=100",), "status: NOERROR"),
            (("+ednsflags=0x80",), "status: NOERROR"),
            (("+dnssec",), "flags: do;"),
            (("+opcode=15",), "status: NOTIMP"),
            (("+zflag",), "status: NOERROR"),
            (("+subnet=192.0.2.0/24",), "status: NOERROR"),
            (("+cookie",), "status: NOERROR"),
            (("-c", "CH"), "status: REFUSED"),
            (("-t", "AXFR"), "Transfer failed"),
        ],
    )
    def test_edns_compliance(self, arguments: tuple[str, ...], expected: str) -> None:
        async def scenario() -> None:
            async with serving(SPEC) as server:
                out = await self.dig(server, "api.corp.internal", *arguments)
                assert expected in out
                assert "WARNING: Message parser reports malformed" not in out

        run(scenario())


def test_twenty_lines_are_enough() -> None:
    """What the documentation shows a user of the library."""

    class AlwaysHealthy:
        def is_healthy(self, key: object, /) -> bool:
            return True

    async def main() -> list[str]:
        api = ServiceSpec("api", records=(("A", 60),), instances=(InstanceSpec("i-1", "10.0.1.10", 8080),))
        spec = DnsSpec(listen=(("127.0.0.1", 0),), namespaces=(NamespaceSpec(("services",), (api,)),))
        server = DnsServer(AlwaysHealthy())
        (await server.prepare(spec)).commit()
        found: Any = addresses(await over_udp(server.bound[0], packets.query("api.services")))
        await server.stop(grace=1)
        return found

    assert run(main()) == ["10.0.1.10"]
