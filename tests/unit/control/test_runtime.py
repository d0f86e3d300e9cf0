"""The running whole under settings that come and go: all of a change or nothing, and one truth about health."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

from penstock.control.config import differences
from penstock.control.exits import CannotApply
from penstock.control.runtime import Runtime
from support import Exchange, Origin, free_port, hang, response, run
from support.configuration import Ports, settings, text


@contextlib.asynccontextmanager
async def running(source: str, directory: Path) -> AsyncIterator[Runtime]:
    runtime = Runtime()
    await runtime.start(settings(source, directory))
    try:
        yield runtime
    finally:
        await runtime.stop()


async def get(port: int, path: str = "/") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


async def ports_of(name: str, port: int) -> list[int]:
    """The ports in the SRV answer."""
    answer = await dns.asyncquery.udp(dns.message.make_query(name, "SRV"), "127.0.0.1", port=port, timeout=2)
    return sorted(record.port for rrset in answer.answer for record in rrset)


async def until(condition: object) -> None:
    """Wait for what the loop is about to do; the test's own timeout ends a wait for what never comes."""
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.005)


def test_start_serves_everything_and_stop_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin(response(b"hello")) as origin:
            async with running(text(ports, origin.port), tmp_path) as runtime:
                assert (runtime.ready, runtime.phase) == (True, "ready")
                assert await get(ports.http) == (200, b"hello")
                assert await ports_of("web.services", ports.dns) == [origin.port]
                assert await get(ports.admin, "/readyz") == (200, b"ready\n")
            assert (runtime.ready, runtime.phase) == (False, "stopped")
        for port in (ports.http, ports.admin):
            with pytest.raises(ConnectionRefusedError):
                await get(port)

    run(main())


@pytest.mark.parametrize("taken", ["http", "dns", "admin"])
def test_start_on_a_port_in_use_says_which_and_opens_nothing(tmp_path: Path, taken: str) -> None:
    async def main() -> None:
        ports = Ports()
        port = getattr(ports, taken)
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(CannotApply, match=f"cannot listen on 127.0.0.1:{port}.*: another process does"):
                await Runtime().start(settings(text(ports, 9), tmp_path))
            for other in {ports.http, ports.dns, ports.admin} - {port}:
                socket.create_server(("127.0.0.1", other)).close()

    run(main())


@pytest.mark.parametrize("taken", ["http", "dns", "admin", "log"])
def test_a_change_that_cannot_be_made_changes_nothing(tmp_path: Path, taken: str) -> None:
    """Every part moves, one of them cannot: all stay where they were, the target groups included."""

    async def main() -> None:
        before, after = Ports(), Ports()
        async with (
            Origin(response(b"old")) as old,
            Origin(response(b"new")) as new,
            running(text(before, old.port), tmp_path) as runtime,
        ):
            was = runtime.settings
            log = "access_log: {file: log/access.log}" if taken == "log" else ""
            (tmp_path / "log" / "access.log").mkdir(parents=True)
            wanted = settings(text(after, new.port, extra=log), tmp_path)
            with contextlib.ExitStack() as stack:
                if taken != "log":
                    stack.enter_context(socket.create_server(("127.0.0.1", getattr(after, taken))))
                with pytest.raises(CannotApply):
                    await runtime.apply(wanted)
            assert runtime.settings is was
            assert await get(before.http) == (200, b"old")
            assert await ports_of("web.services", before.dns) == [old.port]
            assert await get(before.admin, "/readyz") == (200, b"ready\n")
            for port in (after.http, after.dns, after.admin):
                socket.create_server(("127.0.0.1", port)).close()
            await runtime.apply(settings(text(after, new.port), tmp_path))  # what was in the way has gone
            assert await get(after.http) == (200, b"new")

    run(main())


def test_everything_may_move(tmp_path: Path) -> None:
    async def main() -> None:
        before, after = Ports(), Ports()
        async with (
            Origin(response(b"old")) as old,
            Origin(response(b"new")) as new,
            running(text(before, old.port), tmp_path) as runtime,
        ):
            wanted = settings(text(after, new.port), tmp_path)
            assert differences(runtime.settings, wanted)
            await runtime.apply(wanted)
            assert await get(after.http) == (200, b"new")
            assert await ports_of("web.services", after.dns) == [new.port]
            assert await get(after.admin, "/readyz") == (200, b"ready\n")
            for port in (before.http, before.admin):
                with pytest.raises(ConnectionRefusedError):
                    await get(port)

    run(main())


def test_a_flip_reaches_dns_in_the_turn_of_the_loop_in_which_it_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        ports = Ports()
        async with (
            Origin() as steady,
            Origin() as failing,
            running(text(ports, steady.port, failing.port), tmp_path) as runtime,
        ):
            key = next(key for key in runtime.health.view if key.port == failing.port)
            await until(lambda: all(map(runtime.health.is_healthy, runtime.health.view)))
            assert await ports_of("web.services", ports.dns) == sorted([steady.port, failing.port])
            failing.script = (response(status=500),)
            asked = dns.message.make_query("web.services", "SRV").to_wire()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(("127.0.0.1", ports.dns))
                flipped = asyncio.Event()
                runtime.health.subscribe(lambda _: (client.send(asked), flipped.set()))
                await flipped.wait()
                answer = dns.message.from_wire(await asyncio.get_running_loop().sock_recv(client, 1232))
            assert not runtime.health.is_healthy(key)
            assert [record.port for rrset in answer.answer for record in rrset] == [steady.port]

    with caplog.at_level(logging.INFO, "penstock"):
        run(main())
    flips = [record.message for record in caplog.records if "is unhealthy" in record.message]
    assert len(flips) == 1
    assert "Health checks failed with these codes: [500]" in flips[0]


def test_stop_lets_a_request_finish_while_readyz_says_no(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        release = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            if exchange.request.target != b"/health":
                await release.wait()
            exchange.writer.write(response(b"at last"))

        async with Origin(slow) as origin, running(text(ports, origin.port, drain="20s"), tmp_path) as runtime:
            request = asyncio.create_task(get(ports.http, "/slow"))
            await until(lambda: any(seen.target == b"/slow" for seen in origin.requests))
            stopping = asyncio.create_task(runtime.stop())
            await asyncio.sleep(0)
            assert await get(ports.admin, "/readyz") == (503, b"draining\n")
            with pytest.raises(ConnectionRefusedError):
                await get(ports.http)
            release.set()
            assert await request == (200, b"at last")
            await stopping

    run(main())


def test_a_listener_cannot_take_its_own_port_everywhere_and_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin(response(b"hello")) as origin:
            source = text(ports, origin.port)
            async with running(source, tmp_path) as runtime:
                wider = source.replace(f"port: {ports.http}, address: 127.0.0.1", f"port: {ports.http}")
                assert wider != source
                with pytest.raises(CannotApply, match=f"Penstock itself does, on 127.0.0.1:{ports.http}: "):
                    await runtime.apply(settings(wider, tmp_path))
                assert await get(ports.http) == (200, b"hello")

    run(main())


@pytest.mark.parametrize(
    ("written", "asked", "grace"),
    [
        ("", True, 15.0),
        ("", False, 0.0),
        ("grace: 0s, ", True, 0.0),
        ("grace: 3s, ", False, 3.0),
    ],
)
def test_the_grace_is_for_those_who_watch(tmp_path: Path, written: str, asked: bool, grace: float) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin(*[response(b"hello")] * 2) as origin:
            source = text(ports, origin.port).replace("grace: 0s, ", written)
            async with running(source, tmp_path) as runtime:
                if asked:
                    assert await get(ports.admin, "/readyz") == (200, b"ready\n")
                assert runtime.wind_down() == grace
                assert await get(ports.admin, "/readyz") == (503, b"draining\n")
                assert await get(ports.http) == (200, b"hello")  # still accepted
                if asked:
                    assert runtime.readiness_asked is not None
                    runtime.readiness_asked -= 61.0
                    assert runtime.wind_down() == (0.0 if not written else grace)

    run(main())


def test_stop_waits_no_longer_than_the_drain(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin(hang) as origin, running(text(ports, origin.port, drain="0.1s"), tmp_path) as runtime:
            request = asyncio.create_task(get(ports.http, "/slow"))
            await until(lambda: any(seen.target == b"/slow" for seen in origin.requests))
            began = asyncio.get_running_loop().time()
            await runtime.stop()
            assert 0.09 <= asyncio.get_running_loop().time() - began < 2  # uvloop's clock counts whole milliseconds
            with contextlib.suppress(OSError, IndexError):  # cut short, however that looks to a client
                await request

    run(main())


def test_the_access_log_can_be_added_moved_and_taken_away(tmp_path: Path) -> None:
    def lines(name: str) -> list[str]:
        path = tmp_path / name
        return path.read_text().splitlines() if path.exists() else []

    async def main() -> None:
        ports = Ports()
        async with Origin() as origin:
            source = text(ports, origin.port)
            async with running(source, tmp_path) as runtime:
                await get(ports.http, "/nowhere")
                for name in ("one.log", "two.log"):
                    await runtime.apply(settings(f"{source}\naccess_log: {{file: {name}}}", tmp_path))
                    await get(ports.http, f"/{name}")
                (tmp_path / "two.log").rename(tmp_path / "two.log.1")
                runtime.reopen_logs()
                await get(ports.http, "/rotated")
                await runtime.apply(settings(source, tmp_path))
                await get(ports.http, "/nowhere")

    run(main())
    assert [line.count("/one.log") for line in lines("one.log")] == [1]
    assert [line.count("/two.log") for line in lines("two.log.1")] == [1]
    assert [line.count("/rotated") for line in lines("two.log")] == [1]


def test_a_check_that_the_security_group_forbids_is_not_made(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin() as origin:
            extra = (
                "security: {security_groups: {shut: {ingress: [{protocol: all, port: all, source: 0.0.0.0/0}], "
                "egress: []}}}"
            )
            source = text(ports, origin.port, extra=extra).replace("name: lb", "name: lb\n  security_groups: [shut]")
            async with running(source, tmp_path) as runtime:
                await until(lambda: any(record.state == "unhealthy" for record in runtime.health.view.values()))
                (record,) = runtime.health.view.values()
                assert "security group shut egress: no rule allows tcp" in record.description
                assert origin.connections == 0

    run(main())


def test_an_admin_address_off_loopback_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        source = text(Ports(), free_port("0.0.0.0")).replace('admin: {listen: "127.0.0.1:', 'admin: {listen: "0.0.0.0:')
        async with running(source, tmp_path):
            pass

    run(main())
    assert any("has no password and is not loopback" in record.message for record in caplog.records)
