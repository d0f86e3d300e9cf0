"""UDP listeners: flows that stay with their target, end, and are accounted for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from penstock.proxy.health import CheckKey, HealthTable
from penstock.proxy.proxy_protocol import parse
from penstock.proxy.server import Proxy
from penstock.proxy.specs import (
    ALL_PORTS,
    FirewallSpec,
    HealthCheckSpec,
    ListenerLimits,
    Peers,
    SecurityGroupSpec,
    SecurityRuleSpec,
    TargetSpec,
)
from support import run as run_clean
from support.balancer import Balancer, balancing

UDP: dict[str, Any] = {"protocol": "UDP"}
EVERYONE = Peers("0.0.0.0/0", ("0.0.0.0/0",))
TO_ALL = (SecurityRuleSpec("all", ALL_PORTS, EVERYONE),)


class EchoTarget(asyncio.DatagramProtocol):
    """Answers with its name, a colon and what it got; remembers who asked."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.got: list[bytes] = []
        self.peers: set[Any] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port: int = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)
        self.peers.add(addr)
        self.transport.sendto(self.name + b":" + data, addr)


OPEN: list[asyncio.DatagramTransport] = []


def run(test: Coroutine[Any, Any, None]) -> None:
    """The targets of a test end with it, however it ends."""

    async def main() -> None:
        try:
            await test
        finally:
            while OPEN:
                OPEN.pop().close()

    run_clean(main())


async def echo(name: bytes = b"a") -> EchoTarget:
    loop = asyncio.get_running_loop()
    transport, target = await loop.create_datagram_endpoint(lambda: EchoTarget(name), ("127.0.0.1", 0))
    OPEN.append(transport)
    return target


class Client:
    def __init__(self, address: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((address, 0))
        self.name: str = "{}:{}".format(*self.socket.getsockname())

    async def ask(self, lb: Balancer, data: bytes, *, at: str = "127.0.0.1") -> bytes:
        self.send(lb, data, at=at)
        return await self.hear(at, lb.port)

    def send(self, lb: Balancer, data: bytes, *, at: str = "127.0.0.1") -> None:
        self.socket.sendto(data, (at, lb.port))

    async def hear(self, host: str, port: int) -> bytes:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self.socket, readable.set)
        try:
            async with asyncio.timeout(5):
                await readable.wait()
        finally:
            loop.remove_reader(self.socket)
        answer, peer = self.socket.recvfrom(70000)
        assert peer == (host, port), "an answer comes from where the question went"
        return answer


@contextmanager
def clients(number: int = 1, address: str = "127.0.0.1") -> Iterator[list[Client]]:
    made = [Client(address) for _ in range(number)]
    try:
        yield made
    finally:
        for each in made:
            each.socket.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_datagrams_go_there_and_back_and_a_client_stays_with_its_target() -> None:
    async def main() -> None:
        a, b = await echo(b"a"), await echo(b"b")
        with clients(2) as (one, other):
            async with balancing(a.port, b.port, protocol="UDP", group=UDP) as lb:
                heard = [await one.ask(lb, b"%d" % number) for number in range(5)]
                name = heard[0][:1]
                assert heard == [b"%b:%d" % (name, number) for number in range(5)]
                assert (await other.ask(lb, b"x"))[:1] != name, "the next flow goes to the next target"
                counters = lb.listener.counters
                assert (counters.accepted, counters.active, counters.requests) == (2, 2, 2)
                assert sorted(target.in_flight for target in lb.group().targets) == [1, 1]
            first = next(record for record in lb.log if record.client == one.name)
            assert (first.kind, first.received_bytes, first.sent_bytes) == ("udp", 5, 15)
            assert first.target.startswith("127.0.0.1:")
            assert first.reason == "aborted"
            assert (counters.bytes_in, counters.bytes_out, counters.active) == (6, 18, 0)

    run(main())


@pytest.mark.parametrize("size", [0, 1, 1472, 60000])
def test_a_datagram_of_any_size_is_one_datagram(size: int) -> None:
    async def main() -> None:
        target = await echo()
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group=UDP) as lb:
                assert await client.ask(lb, b"x" * size) == b"a:" + b"x" * size

    run(main())


def test_on_a_wildcard_address_the_answer_leaves_from_where_the_question_went() -> None:
    async def main() -> None:
        target = await echo()
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group=UDP, address="0.0.0.0") as lb:
                assert await client.ask(lb, b"1", at="127.0.0.1") == b"a:1"
                assert await client.ask(lb, b"2", at="127.0.0.9") == b"a:2"
                assert len(target.peers) == 2, "another address of ours is another flow (5-tuple)"

    run(main())


def test_a_silent_flow_ends_and_the_next_datagram_begins_another() -> None:
    async def main() -> None:
        target = await echo()
        with clients(2) as (client, busy):
            async with balancing(target.port, protocol="UDP", group=UDP) as lb:
                await client.ask(lb, b"1")
                await busy.ask(lb, b"1")
                start = lb.proxy.clock.now
                lb.proxy.clock.now = start + 100
                await busy.ask(lb, b"2")
                lb.listener.sweep(start + 119)
                assert len(lb.listener.connections) == 2
                lb.listener.sweep(start + 121)
                (left,) = lb.listener.connections
                assert left.peer[1] == busy.socket.getsockname()[1], "use keeps a flow"
                assert [record.reason for record in lb.log] == ["idle_timeout"]
                assert not lb.listener.counters.failed, "to fall silent is no failure"
                assert await client.ask(lb, b"3") == b"a:3"
                assert len(target.peers) == 3, "a new flow has a port of its own towards the target"

    run(main())


def test_beyond_the_limit_the_flow_that_was_silent_longest_ends() -> None:
    async def main() -> None:
        target = await echo()
        with clients(3) as made:
            async with balancing(target.port, protocol="UDP", group=UDP, limits=ListenerLimits(flows=2)) as lb:
                for number, client in enumerate((made[0], made[1], made[0], made[2])):
                    lb.proxy.clock.now += 1
                    await client.ask(lb, b"%d" % number)
                assert [(record.client, record.reason) for record in lb.log] == [(made[1].name, "flow_limit")]
                assert lb.listener.counters.failed == {"flow_limit": 1}
                assert lb.listener.counters.active == 2
                await lb.reload(limits=ListenerLimits(flows=1))
                await made[1].ask(lb, b"5")
                assert lb.listener.counters.active == 1, "a smaller limit holds from the next flow on"

    run(main())


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_security_group_is_asked_about_udp(protocol: Any) -> None:
    async def main() -> None:
        target = await echo()
        rule = SecurityRuleSpec(protocol, ALL_PORTS, EVERYONE)
        firewall = FirewallSpec((SecurityGroupSpec("dns-sg", (rule,), TO_ALL),))
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group=UDP, firewall=firewall) as lb:
                if protocol == "udp":
                    assert await client.ask(lb, b"1") == b"a:1"
                    return
                for _ in range(3):
                    client.send(lb, b"x")
                counters = lb.listener.counters
                await until(lambda: counters.denied == {"sg:dns-sg/ingress/default": 3})
                assert [(record.reason, record.denied_by) for record in lb.log] == [
                    ("denied", "sg:dns-sg/ingress/default")
                ], "once a second of each source: a flood of datagrams is no flood of lines"
                assert (counters.accepted, counters.active) == (0, 0)

    run(main())


def test_egress_that_allows_tcp_alone_forbids_udp_targets() -> None:
    async def main() -> None:
        target = await echo()
        egress = (SecurityRuleSpec("tcp", ALL_PORTS, EVERYONE),)
        firewall = FirewallSpec((SecurityGroupSpec("dns-sg", TO_ALL, egress),))
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group=UDP, firewall=firewall) as lb:
                client.send(lb, b"x")
                await until(lambda: lb.listener.counters.failed == {"target_denied": 1})
                assert lb.listener.counters.denied == {"sg:dns-sg/egress/default": 1}
                assert not target.got

    run(main())


def test_without_a_target_the_datagram_is_dropped_and_said_so() -> None:
    async def main() -> None:
        with clients() as (client,):
            async with balancing(protocol="UDP", group=UDP) as lb:
                client.send(lb, b"x")
                await until(lambda: lb.listener.counters.failed == {"no_target": 1})
                assert [(record.kind, record.reason) for record in lb.log] == [("udp", "no_target")]

    run(main())


def test_a_target_that_is_not_there_loses_its_flow_to_the_next() -> None:
    async def main() -> None:
        gone, here = await echo(b"gone"), await echo(b"here")
        dead = gone.port
        gone.transport.close()
        await asyncio.sleep(0)
        with clients(2) as made:
            async with balancing(dead, here.port, protocol="UDP", group=UDP) as lb:
                for client in made:
                    client.send(lb, b"1")
                await until(lambda: lb.listener.counters.failed == {"connect_failed": 1})
                for client in made:  # a client asks again, as clients of UDP must
                    client.send(lb, b"2")
                await until(lambda: here.got.count(b"2") >= 1)

    run(main())


def test_a_flow_leaves_a_target_that_fell_ill() -> None:
    async def main() -> None:
        a, b = await echo(b"a"), await echo(b"b")
        table = HealthTable()
        check = HealthCheckSpec("TCP", healthy_threshold=1, unhealthy_threshold=1)
        keys = {target.port: CheckKey.of("127.0.0.1", target.port, check) for target in (a, b)}
        table.track(list(keys.values()), 0.0)
        for key in keys.values():
            table.observe(key, True, "", "", 0.0)
        with clients() as (client,):
            async with balancing(
                a.port, b.port, protocol="UDP", group={**UDP, "health_check": check}, table=table
            ) as lb:
                first = (await client.ask(lb, b"1"))[:1]
                ill = a if first == b"a" else b
                table.observe(keys[ill.port], False, "Target.Timeout", "Request timed out.", 1.0)
                await until(lambda: all(lb.group().pick().spec.port != ill.port for _ in range(4)))
                lb.listener.sweep(lb.proxy.clock.now)
                assert [record.reason for record in lb.log] == ["target_unhealthy"]
                assert (await client.ask(lb, b"2"))[:1] != first

    run(main())


def test_with_nobody_healthy_flows_stay_where_they_are() -> None:
    async def main() -> None:
        target = await echo()
        table = HealthTable()
        check = HealthCheckSpec("TCP", unhealthy_threshold=1)
        key = CheckKey.of("127.0.0.1", target.port, check)
        table.track([key], 0.0)
        table.observe(key, False, "Target.Timeout", "Request timed out.", 1.0)
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group={**UDP, "health_check": check}, table=table) as lb:
                assert await client.ask(lb, b"1") == b"a:1"
                lb.listener.sweep(lb.proxy.clock.now)
                assert lb.listener.counters.active == 1

    run(main())


def test_reload_flows_stay_and_a_removed_target_drains() -> None:
    async def main() -> None:
        a, b = await echo(b"a"), await echo(b"b")
        with clients(2) as (old, new):
            async with balancing(a.port, protocol="UDP", group={**UDP, "deregistration_delay": 60.0}) as lb:
                assert await old.ask(lb, b"1") == b"a:1"
                await lb.reload(targets=(TargetSpec("127.0.0.1", b.port),))
                assert await old.ask(lb, b"2") == b"a:2", "what has begun goes on"
                assert await new.ask(lb, b"3") == b"b:3"
                lb.group().sweep(lb.proxy.clock.now + 61)
                assert [record.reason for record in lb.log] == ["target_drained"]
                assert await old.ask(lb, b"4") == b"b:4"

    run(main())


def test_a_removed_listener_lets_answers_through_and_can_come_back_at_once() -> None:
    async def main() -> None:
        target = await echo()
        with clients(2) as (old, new):
            async with balancing(target.port, protocol="UDP", group=UDP) as lb:
                listener = lb.listener
                spec = replace(lb.spec, listeners=(replace(lb.spec.listeners[0], port=lb.port),))
                # Port 0 was asked for: its own key again, so that the address is what is taken away and given back.
                assert await old.ask(lb, b"1") == b"a:1"
                empty = replace(lb.spec, listeners=())
                (await lb.proxy.prepare(empty)).commit()
                assert await old.ask(lb, b"2") == b"a:2", "an answer that is under way arrives"
                new.send(lb, b"x")
                (await lb.proxy.prepare(lb.spec)).abort()
                assert await old.ask(lb, b"3") == b"a:3", "a change that does not come to be changes nothing"
                assert b"x" not in target.got
                (await lb.proxy.prepare(lb.spec)).commit()
                assert listener.counters.active == 0
                assert lb.listener.bound[1] == lb.port
                assert await new.ask(lb, b"4") == b"a:4"
                assert spec.listeners[0].key == f"127.0.0.1:{lb.port}/udp"

    run(main())


def test_a_closed_listener_gives_its_flows_five_seconds() -> None:
    async def main() -> None:
        target = await echo()
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group=UDP) as lb:
                await client.ask(lb, b"1")
                listener, now = lb.listener, lb.proxy.clock.now
                (await lb.proxy.prepare(replace(lb.spec, listeners=()))).commit()
                await client.ask(lb, b"2")
                listener.sweep(now + 4.9)
                assert listener.is_open
                listener.sweep(now + 5.1)
                assert not listener.is_open
                assert [record.reason for record in lb.log] == ["drained"]

    run(main())


def test_proxy_protocol_goes_before_each_datagram() -> None:
    async def main() -> None:
        target = await echo()
        with clients() as (client,):
            async with balancing(target.port, protocol="UDP", group={**UDP, "proxy_protocol": "v2"}) as lb:
                await client.ask(lb, b"one")
                await client.ask(lb, b"two")
                for got, payload in zip(target.got, (b"one", b"two"), strict=True):
                    header = parse(got)
                    assert header is not None
                    assert (header.source, header.destination) == (client.socket.getsockname(), ("127.0.0.1", lb.port))
                    assert got[header.length :] == payload

    run(main())


def test_an_address_in_use_is_an_error_that_names_it() -> None:
    async def main() -> None:
        with clients() as (holder,):
            port = holder.socket.getsockname()[1]
            with pytest.raises(OSError, match="in use") as caught:
                async with balancing(protocol="UDP", group=UDP, port=port):
                    raise AssertionError("it was bound")
            assert caught.value.filename == f"127.0.0.1:{port}/udp"

    run(main())


def test_several_processes_share_the_address() -> None:
    """One makes sure of the port and takes no datagrams; those that serve have it together."""

    async def main() -> None:
        target = await echo()
        with clients(8) as made:
            async with balancing(target.port, protocol="UDP", group=UDP) as first:
                port = first.port
            async with balancing(target.port, protocol="UDP", group=UDP, port=port) as alone:
                reserving = Proxy(HealthTable(), sharing="reserved")
                with pytest.raises(OSError, match="in use"):
                    await reserving.prepare(alone.spec)
                await reserving.stop(0)
            reserving = Proxy(HealthTable(), sharing="reserved")
            (await reserving.prepare(alone.spec)).commit()
            serving = [Proxy(HealthTable(), sharing="shared") for _ in range(2)]
            for proxy in serving:
                (await proxy.prepare(alone.spec)).commit()
            for client in made:
                assert await client.ask(alone, b"x") == b"a:x"
            each = [next(iter(proxy.listeners.values())).counters.accepted for proxy in serving]
            assert sum(each) == len(made)
            for proxy in (*serving, reserving):
                await proxy.stop(0)

    run(main())
