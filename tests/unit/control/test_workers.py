"""What the supervisor and its workers are made of: the line between them, reserved ports, how many there are."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.control import channel as channels
from penstock.control.channel import Channel, Commit, Health, Hello, Prepare, encode
from penstock.control.exits import CannotApply
from penstock.control.processors import available_processors, worker_count
from penstock.control.runtime import Runtime
from penstock.control.workers import Worker, WorkerLost, Workers
from penstock.dns.reservation import DnsReservation
from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec
from penstock.proxy.health import CheckKey, HealthTable, TargetHealth
from penstock.proxy.server import Proxy
from penstock.proxy.specs import FixedResponse, HealthCheckSpec, ListenerSpec, ProxySpec
from penstock.proxy.targets import check_keys
from support import free_port, run
from support.configuration import Ports, settings, text

KEY = CheckKey("192.0.2.1", 80, HealthCheckSpec())
HEALTHY = TargetHealth("healthy", "", "", 1.0)
UNHEALTHY = TargetHealth("unhealthy", "Target.Timeout", "Request timed out.", 2.0)


# The line


def test_messages_arrive_as_they_were_sent_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "LARGE", 1000)  # the settings are unpickled on a thread, the others are not
    wanted = settings(text(Ports(), 9, extra="access_log: {file: a.log}"), tmp_path)
    sent = [
        Hello("1.0"),
        Prepare(wanted, {KEY: HEALTHY}, {"app.example.org": ("192.0.2.1",)}, b"key"),
        Commit(),
        Health({KEY: UNHEALTHY}, whole=True),
    ]

    async def main() -> None:
        ours, theirs = socket.socketpair()
        one, other = await Channel.over(ours), await Channel.over(theirs)
        for number, message in enumerate(sent):
            one.send(number, message)
        one.send_encoded(encode(7, None))
        assert [await other.receive() for _ in range(5)] == [*enumerate(sent), (7, None)]
        one.close()
        assert await other.receive() is None
        other.send(0, Commit())  # to somebody who is gone: no business of the sender's
        assert await one.receive() is None
        other.close()

    run(main())


def test_keys_are_not_shown_in_a_representation() -> None:
    assert "secret" not in repr(channels.TicketKey(b"secret"))


def test_what_one_process_wrote_another_finds_in_its_tables(tmp_path: Path) -> None:
    """Each process hashes text in its own way, so no hash may travel with a key."""
    wanted = settings(text(Ports(), 9), tmp_path)
    (key,) = check_keys(wanted.proxy.target_groups)
    (tmp_path / "sent").write_bytes(pickle.dumps((wanted, {key: HEALTHY})))
    code = (
        "import pickle, sys; from penstock.proxy.targets import check_keys;"
        "settings, health = pickle.load(open(sys.argv[1], 'rb'));"
        "print([health[key].state for key in check_keys(settings.proxy.target_groups)])"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-P", "-c", code, str(tmp_path / "sent")]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
        assert done.stdout == "['healthy']\n", done.stderr


# Health that somebody else found out


def test_adopted_health_is_told_where_it_differs() -> None:
    other = CheckKey("192.0.2.2", 80, HealthCheckSpec())
    table, told = HealthTable(), []
    table.subscribe(told.append)
    table.adopt({KEY: HEALTHY, other: HEALTHY}, whole=True)
    assert (table.is_healthy(KEY), table.is_healthy(other)) == (True, True)
    table.adopt({KEY: UNHEALTHY}, whole=False)
    assert (table.is_healthy(KEY), table.is_healthy(other)) == (False, True)
    table.adopt({KEY: UNHEALTHY}, whole=True)
    assert list(table.view) == [KEY]
    assert told == [{KEY, other}, {KEY}]


# Addresses


def listener(port: int, address: str = "127.0.0.1") -> ProxySpec:
    return ProxySpec((ListenerSpec("lb", address, port, "HTTP", FixedResponse(200)),))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_reserved_port_is_nobody_elses_but_the_workers(address: str) -> None:
    async def main() -> None:
        port = free_port(address)
        table = HealthTable()
        supervisor, worker, second = (
            Proxy(table, sharing="reserved"), Proxy(table, sharing="shared"), Proxy(table, sharing="shared"),
        )  # fmt: skip
        (await supervisor.prepare(listener(port, address))).commit()
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
            assert client.connect_ex((address, port)) == errno.ECONNREFUSED, "reserved is not listening"
        for one in (worker, second):
            (await one.prepare(listener(port, address))).commit()
        for sharing in ("alone", "reserved"):
            with pytest.raises(OSError, match="Address already in use"):
                await Proxy(table, sharing=sharing).prepare(listener(port, address))
        for one in (worker, second, supervisor):
            await one.stop(0)
        (await supervisor.prepare(listener(port, address))).abort()

    run(main())


def test_the_dns_ports_are_reserved_too_and_get_no_query() -> None:
    async def main() -> None:
        port = free_port()
        spec = DnsSpec(listen=(("127.0.0.1", port),))
        reservation, server = DnsReservation(HealthTable()), DnsServer(HealthTable(), shared=True)
        (await reservation.prepare(spec)).commit()
        assert reservation.bound == [("127.0.0.1", port)]
        (await server.prepare(spec)).commit()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", port))
            for number in range(20):  # none is lost to a socket that nobody reads
                client.send(bytes((0, number)) + b"\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01")
                answer = await asyncio.get_running_loop().sock_recv(client, 512)
                assert answer[1] == number
        for other in (DnsReservation(HealthTable()), DnsServer(HealthTable())):
            with pytest.raises(OSError, match=f"127.0.0.1:{port}/udp"):
                await other.prepare(spec)
        await server.stop(0)
        with socket.create_server(("127.0.0.1", free_port())) as listening:
            taken = listening.getsockname()[1]
            with pytest.raises(OSError, match=f"127.0.0.1:{taken}/tcp"):
                await reservation.prepare(DnsSpec(listen=(("127.0.0.1", free_port()), ("127.0.0.1", taken))))
        assert reservation.bound == [("127.0.0.1", port)], "a change that cannot be made changes nothing"
        (await reservation.prepare(DnsSpec())).commit()
        assert reservation.bound == []
        await reservation.stop(0)

    run(main())


# Processes


def test_a_worker_of_another_version_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package was upgraded below a process that runs."""
    monkeypatch.setattr("penstock.control.workers.VERSION", "0.0.1")

    async def main() -> None:
        with pytest.raises(WorkerLost, match=r"Penstock [0-9.]+ is installed now, and this process is 0.0.1: restart"):
            await Worker.start(0)

    run(main())


def test_a_worker_that_never_comes_up_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")

    async def main() -> None:
        workers = Workers(2, HealthTable())
        with pytest.raises(CannotApply, match="a worker process cannot be started: it ended with exit code 1"):
            await workers.prepare(settings(text(Ports(), 9), tmp_path))
        await workers.stop(0)

    run(main())


def test_a_number_that_a_reload_changes_is_for_the_next_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ports, runtime = Ports(), Runtime()
        await runtime.start(settings(text(ports, 9), tmp_path))
        assert "workers" not in caplog.text
        await runtime.apply(settings(text(ports, 9, extra="workers: 3"), tmp_path))
        await runtime.stop(0)

    with caplog.at_level(logging.WARNING, "penstock"):
        run(main())
    assert "workers: 3 is for the next start; this process has 1" in caplog.text


def until_logged(caplog: pytest.LogCaptureFixture, words: str) -> Callable[[], bool]:
    return lambda: words in caplog.text


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("change", ["the interpreter is gone", "the interpreter fails"])
def test_a_worker_that_cannot_be_replaced_is_tried_again_more_and_more_slowly(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock.control.workers.FIRST_DELAY", 0.01)
    monkeypatch.setattr("penstock.control.workers.LONGEST_DELAY", 0.04)

    async def main() -> None:
        runtime = Runtime(workers=2)
        await runtime.start(settings(text(Ports(), 9), tmp_path))
        assert runtime.workers is not None
        with monkeypatch.context() as patch:
            patch.setattr("sys.executable", "/bin/false" if change == "the interpreter fails" else "/nowhere/python")
            for worker in runtime.workers.statuses():
                os.kill(worker.process_id, signal.SIGKILL)
            await until(until_logged(caplog, "trying again in 0.04 s"))
            assert not runtime.ready, "nobody serves"
        await until(lambda: all(worker.up for worker in runtime.workers.statuses()))
        assert runtime.ready
        await runtime.stop()

    run(main())
    why = "it ended with exit code 1" if change == "the interpreter fails" else "/nowhere/python: No such file"
    assert f"cannot serve: {why}" in caplog.text
    assert "was killed by SIGKILL; another one starts in 0.01 s" in caplog.text


def test_a_worker_that_does_not_answer_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("penstock.control.workers.LOOK_INTERVAL", 0.05)
    patience = "penstock.control.workers.STUCK"
    monkeypatch.setattr(patience, 60.0)

    async def main() -> None:
        ports = Ports()
        runtime = Runtime(workers=2)
        await runtime.start(settings(text(ports, 9), tmp_path))
        assert runtime.workers is not None
        monkeypatch.setattr(patience, 5.0)
        await runtime.look()  # whoever was looked at with more patience has answered
        stuck, other = runtime.workers.statuses()
        os.kill(stuck.process_id, signal.SIGSTOP)
        await runtime.look()  # waits no longer than its patience
        await until(lambda: runtime.workers.statuses()[0].restarts == 1)
        monkeypatch.setattr(patience, 60.0)  # on a busy machine a start takes longer than that
        await until(lambda: runtime.workers.statuses()[0].up)
        assert runtime.workers.statuses()[1].process_id == other.process_id
        await runtime.stop()

    run(main())
    assert "worker 0 (process " in caplog.text
    assert "has not answered for 5 s" in caplog.text


def test_a_reload_that_is_cancelled_leaves_the_workers_as_they_were(tmp_path: Path) -> None:
    async def main() -> None:
        before, after = Ports(), Ports()
        runtime = Runtime(workers=2)
        await runtime.start(settings(text(before, 9), tmp_path))
        for turns in range(12):
            applying = asyncio.create_task(runtime.apply(settings(text(after, 9), tmp_path)))
            await asyncio.sleep(turns / 1000)
            applying.cancel()
            await asyncio.gather(applying, return_exceptions=True)
        await runtime.apply(settings(text(before, 9), tmp_path))
        await runtime.apply(settings(text(after, 9), tmp_path))
        assert runtime.workers is not None
        assert [worker.restarts for worker in runtime.workers.statuses()] == [0, 0]
        await runtime.stop()

    run(main())


# How many


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        pytest.param("max 100000", 8, id="no quota"),
        pytest.param("200000 100000", 2, id="two processors' worth"),
        pytest.param("150000 100000", 2, id="rounded up"),
        pytest.param("50000 100000", 1, id="never none"),
        pytest.param("9999999 100000", 8, id="no more than there are"),
        pytest.param("what", 8, id="not the file we know"),
    ],
)
def test_auto_is_what_the_process_may_use(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    file = tmp_path / "cpu.max"
    file.write_text(f"{quota}\n")
    assert available_processors(file) == expected
    assert available_processors(tmp_path / "missing") == 8


def test_a_number_is_that_number() -> None:
    assert (worker_count(3), worker_count("auto")) == (3, available_processors())
