"""A target group of one DNS name, while the name moves, its resolver fails, and the name is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from penstock.control.admin.metrics import registry_of
from penstock.control.runtime import Runtime
from penstock.proxy import names
from penstock.proxy.health import HealthTable
from penstock.proxy.specs import HealthCheckSpec, NamedTargetSpec, StickinessSpec
from support import Exchange, Origin, free_port, response, run
from support.balancer import balancing
from support.configuration import settings
from support.dig import dig
from support.dns_net import resolving

HOST = "app.example.org"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIN_TTL", "RETRY"):
        monkeypatch.setattr(names, name, 0.02)


class Zone:
    """What the resolver says at the moment: addresses, or the code of a failure."""

    def __init__(self, *addresses: str) -> None:
        self.says: tuple[str, ...] | str = addresses

    def script(self, query: dns.message.Message, _: str) -> Iterable[bytes]:
        reply = dns.message.make_response(query)
        if isinstance(self.says, str):
            reply.set_rcode(dns.rcode.from_text(self.says))
        elif query.question[0].rdtype == dns.rdatatype.A:
            reply.answer = [dns.rrset.from_text(f"{HOST}.", 0, "IN", "A", *self.says)] if self.says else []
        yield reply.to_wire()


async def get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    try:
        answer = await reader.read()
    finally:
        writer.close()
    return answer.split(b" ", 2)[1] + b" " + answer.partition(b"\r\n\r\n")[2]


async def until_answered(port: int, wanted: bytes) -> None:
    async with asyncio.timeout(10):
        while await get(port) != wanted:
            await asyncio.sleep(0.01)


def test_it_goes_where_the_name_goes_and_stays_when_nobody_knows(tmp_path: Path) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await release.wait()
            exchange.writer.write(response(b"from one, at last"))

        async with Origin(response(b"one"), slow) as one:
            async with Origin(response(b"two"), address="127.0.0.2", port=one.port) as two:
                zone, port = Zone("127.0.0.1"), free_port()
                async with resolving(zone.script) as resolver:
                    runtime = Runtime()
                    await runtime.start(settings(source(port, one.port, resolver.address), tmp_path))
                    try:
                        assert await get(port) == b"200 one", "it is resolved before the first client comes"
                        under_way = asyncio.create_task(get(port))
                        while len(one.requests) < 2:
                            await asyncio.sleep(0.01)

                        zone.says = ("127.0.0.2",)
                        while runtime.resolution.addresses != {HOST: zone.says}:
                            await asyncio.sleep(0.01)
                        assert await get(port) == b"200 two"
                        moved_away, here = runtime.proxy.groups["tg"].targets[::-1]
                        assert (moved_away.key, moved_away.draining) == (f"127.0.0.1:{one.port}", True)
                        assert (here.key, here.draining) == (f"127.0.0.2:{two.port}", False)
                        release.set()
                        assert await under_way == b"200 from one, at last"

                        for failure in ("SERVFAIL", "REFUSED", ()):
                            zone.says = failure
                            asked = len(resolver.asked)
                            while len(resolver.asked) < asked + 6:
                                await asyncio.sleep(0.01)
                            assert await get(port) == b"200 two"
                        zone.says = "NXDOMAIN"
                        await until_answered(port, b"503 503 Service Unavailable\n")
                        zone.says = ("127.0.0.2",)
                        await until_answered(port, b"200 two")
                    finally:
                        await runtime.stop()
            assert len(one.requests) == 2

    run(main())


def test_its_addresses_are_checked_and_a_reload_keeps_what_is_known_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with Origin(response(b"one")) as one:
            zone, port = Zone("127.0.0.1", "127.0.0.2"), free_port()
            async with resolving(zone.script) as resolver:
                runtime = Runtime()
                check = "health_check: {interval: 100ms, unhealthy_threshold: 1}"
                text = source(port, one.port, resolver.address).replace("targets:", f"{check}, targets:")
                await runtime.start(settings(text, tmp_path))
                try:

                    def states() -> dict[str, str]:
                        return {key.ip: record.state for key, record in runtime.health.view.items()}

                    async with asyncio.timeout(10):
                        while states() != {"127.0.0.1": "healthy", "127.0.0.2": "unhealthy"}:
                            await asyncio.sleep(0.01)
                    before = {target.key: target for target in runtime.proxy.groups["tg"].targets}
                    await runtime.apply(settings(text.replace("name: lb,", "name: other,"), tmp_path))
                    assert {target.key: target for target in runtime.proxy.groups["tg"].targets} == before
                    assert [await get(port) for _ in range(3)] == [b"200 one"] * 3

                    zone.says = "SERVFAIL"
                    without = text.replace(f"host: {HOST}", "ip: 127.0.0.1")
                    await runtime.apply(settings(without, tmp_path))
                    asked = len(resolver.asked)
                    assert await get(port) == b"200 one"
                    assert not runtime.resolution.addresses
                    await asyncio.sleep(0.1)
                    assert len(resolver.asked) == asked, "a name that left the file is not asked for any more"
                finally:
                    await runtime.stop()

    run(main())


def test_workers_go_where_their_supervisor_found_the_name(tmp_path: Path) -> None:
    async def main() -> None:
        zone, port = Zone("127.0.0.1"), free_port()
        async with (
            Origin(response(b"one")) as one,
            Origin(response(b"two"), address="127.0.0.2", port=one.port),
            resolving(zone.script) as resolver,
        ):
            runtime = Runtime(workers=2)
            check = "health_check: {interval: 100ms, healthy_threshold: 1}"
            text = source(port, one.port, resolver.address).replace("targets:", f"{check}, targets:")
            await runtime.start(settings(text, tmp_path))
            try:
                assert {await get(port) for _ in range(8)} == {b"200 one"}
                zone.says = ("127.0.0.2",)
                async with asyncio.timeout(10):
                    while {await get(port) for _ in range(8)} != {b"200 two"}:
                        await asyncio.sleep(0.01)
            finally:
                await runtime.stop()

    run(main())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_answers_where_the_name_of_its_targets_is(tmp_path: Path, workers: int) -> None:
    async def main() -> None:
        zone, port, dns_port = Zone(), free_port(), free_port()
        async with Origin(response(b"one")) as one, resolving(zone.script) as resolver:
            runtime = Runtime(workers=workers)
            check = "health_check: {interval: 100ms, unhealthy_threshold: 1}"
            text = source(port, one.port, resolver.address).replace("targets:", f"{check}, targets:") + (
                "service_discovery: {namespaces: [{name: services, services: [{name: web, target_group: tg}]}]}\n"
                f'dns: {{listen: "127.0.0.1:{dns_port}"}}\n'
            )
            await runtime.start(settings(text, tmp_path))

            async def answers(*wanted: str) -> None:
                """Three times in a row: each worker hears of a change by itself."""
                same = 0
                async with asyncio.timeout(20):
                    while same < 3:
                        said = await asyncio.to_thread(dig, dns_port, "web.services", "A")
                        same = same + 1 if sorted(said.data) == list(wanted) else 0

            try:
                await answers()
                zone.says = ("127.0.0.1",)
                await answers("127.0.0.1")
                service = await asyncio.to_thread(dig, dns_port, "web.services", "SRV")
                assert [record.split()[2] for record in service.data] == [str(one.port)]
                zone.says = ("127.0.0.1", "127.0.0.2")  # nobody is at the second, and its check finds out
                async with asyncio.timeout(10):
                    while len(runtime.resolution.addresses[HOST]) < 2:
                        await asyncio.sleep(0.01)
                await answers("127.0.0.1")
                zone.says = "SERVFAIL"
                await runtime.apply(settings(text.replace("name: lb,", "name: other,"), tmp_path))
                await answers("127.0.0.1")
                registry, labels = registry_of(runtime), {"host": HOST}
                async with asyncio.timeout(10):
                    while not registry.get_sample_value("penstock_target_name_lookup_failures_total", labels):
                        await asyncio.sleep(0.01)
                assert registry.get_sample_value("penstock_target_name_addresses", labels) == 2
                assert (registry.get_sample_value("penstock_target_name_lookups_total", labels) or 0) >= 4
                age = registry.get_sample_value("penstock_target_name_answer_age_seconds", labels)
                assert age is not None
                assert 0 < age < 100
            finally:
                await runtime.stop()

    run(main(), timeout=100.0)


def source(port: int, target: int, resolver: tuple[str, int]) -> str:
    return f"""\
load_balancer: {{name: lb, listeners: [{{port: {port}, address: 127.0.0.1, protocol: HTTP}}],
  target_groups: [{{name: tg, port: {target}, targets: [{{host: {HOST}}}]}}]}}
resolution: {{resolvers: "{resolver[0]}:{resolver[1]}"}}
shutdown: {{drain: 1s}}
"""


def test_clients_stay_where_their_cookies_say_when_a_name_moves() -> None:
    """The group is settled anew with each change of addresses, and its cookies are signed as they were before."""

    async def main() -> None:
        async with Origin(*[response(b"one")] * 2) as one, balancing(one.port) as balancer:
            named = NamedTargetSpec(HOST, one.port)
            sticky = StickinessSpec("lb_cookie")
            (group,) = balancer.spec.target_groups
            spec = replace(
                balancer.spec, target_groups=(replace(group, targets=(), named_targets=(named,), stickiness=sticky),)
            )
            balancer.proxy.use_addresses({HOST: ("127.0.0.1",)})
            (await balancer.proxy.prepare(spec)).commit()
            signed = balancer.group().sticky
            assert signed is not None
            balancer.proxy.use_addresses({HOST: ("127.0.0.1", "127.0.0.2")})
            assert [target.spec.ip for target in balancer.group().targets] == ["127.0.0.1", "127.0.0.2"]
            assert balancer.group().sticky is signed

    run(main())


def test_the_health_of_an_address_that_came_later_is_heeded() -> None:
    async def main() -> None:
        table, check = HealthTable(), HealthCheckSpec()
        group = {"named_targets": (NamedTargetSpec(HOST, 9001),), "health_check": check}
        async with balancing(group=group, table=table) as balancer:
            balancer.proxy.use_addresses({HOST: ("192.0.2.1",)})
            balancer.proxy.use_addresses({HOST: ("192.0.2.1", "192.0.2.2")})
            keys = sorted(balancer.proxy.check_keys(), key=lambda key: key.ip)
            table.track(keys, 0.0)
            table.observe(keys[1], True, "", "", 1.0)
            await asyncio.sleep(0.05)
            assert {balancer.group().pick().spec.ip for _ in range(4)} == {"192.0.2.2"}

    run(main())
