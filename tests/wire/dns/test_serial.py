"""The SOA's serial moves with what secondaries would have: instances, their health, the configuration."""

from __future__ import annotations

import asyncio

import dns.message
import pytest

from penstock.dns import serial
from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, ServiceSpec
from penstock.dns.transport_specs import TransportSpec
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, Health, over_udp, serving
from support.loop import run

INSTANCES = tuple(InstanceSpec(f"i-{n}", f"10.0.0.{n}", 80, health_key=n) for n in (1, 2))
API = ServiceSpec("api", (("A", 60),), "weighted", INSTANCES)
SPEC = DnsSpec(
    LOCAL, (NamespaceSpec(("services.example.org",), (API,)), NamespaceSpec(("example.net",))),
    transport=TransportSpec(transfer_to=("127.0.0.1/32",)),
)  # fmt: skip


async def serial_of(server: DnsServer, zone: str = "services.example.org") -> int:
    message = dns.message.from_wire(await over_udp(server.bound[0], packets.query(zone, 6)))
    return message.answer[0][0].serial


def test_it_moves_with_every_change_and_with_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "INTERVAL", 0.01)

    async def scenario() -> None:
        health = Health()
        async with serving(SPEC, health=health) as server:
            number = await serial_of(server)

            async def moved() -> int:
                async with asyncio.timeout(PATIENCE):
                    while (now := await serial_of(server)) == number:
                        await asyncio.sleep(0.005)
                assert await serial_of(server, "example.net") == now
                return now

            def fall_ill() -> None:
                health.sick.add(1)
                server.health_changed([1])

            for change in (
                lambda: server.register("services.example.org", "api", InstanceSpec("i-3", "10.0.0.3", 80)),
                lambda: server.deregister("services.example.org", "api", "i-3"),
                fall_ill,
            ):
                change()
                after = await moved()
                assert after > number
                number = after
            server.health_changed([1, "somebody else's"])
            with pytest.raises(ValueError, match="there is no service"):
                server.deregister("services.example.org", "web", "i-1")
            assert await serial_of(server) == number, "nothing changed"
            (await server.prepare(SPEC)).commit()
            assert await serial_of(server) > number

    run(scenario())


def test_what_changes_within_a_second_is_seen_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "INTERVAL", 0.3)

    async def scenario() -> None:
        async with serving(SPEC) as server:
            numbers = [await serial_of(server)]
            for n in range(100):
                server.register("services.example.org", "api", InstanceSpec(f"n-{n}", "10.0.1.1", 80))
            async with asyncio.timeout(PATIENCE):
                while len(numbers) < 3:
                    if (now := await serial_of(server)) != numbers[-1]:
                        numbers.append(now)
            await asyncio.sleep(2 * serial.INTERVAL)
            assert await serial_of(server) == numbers[2], "a hundred changes are two moves"

    run(scenario())
