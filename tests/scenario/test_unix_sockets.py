"""Unix sockets: to listen on, and to reach targets by."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.proxy.proxy_protocol import build
from penstock.proxy.specs import TargetSpec, TrustedProxiesSpec
from support import Origin, run
from support.balancer import balancing

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


async def ask(path: Path, request: bytes = GET) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def test_http_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port, address=str(path)) as lb:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            assert (await ask(path)).startswith(b"HTTP/1.1 200 ")
            assert origin.requests[0].value(b"x-forwarded-for") == b"unix"
            (record,) = lb.log
            assert (record.listener, record.client) == (f"unix:{path}", "unix:0")
        assert not path.exists(), "who made the file removes it"

    run(main())


def test_behind_a_proxy_on_the_same_machine(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"

    async def main() -> None:
        async with (
            Origin() as origin,
            balancing(origin.port, address=str(path), proxy_protocol=TrustedProxiesSpec()) as lb,
        ):
            await ask(path, build("v2", ("203.0.113.9", 51000), ("198.51.100.1", 443)) + GET)
            assert origin.requests[0].value(b"x-forwarded-for") == b"203.0.113.9"
            assert await ask(path) == b""
            assert lb.listener.counters.failed == {"proxy_header_missing": 1}

    run(main())


def test_a_file_that_was_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as holder:
            holder.bind(str(path))
            holder.listen()
            with pytest.raises(OSError, match="in use") as caught:
                async with balancing(1, address=str(path)):
                    raise AssertionError("it was bound")
            assert caught.value.filename == f"unix:{path}"
        async with Origin() as origin, balancing(origin.port, address=str(path)):
            assert (await ask(path)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")

    async def main() -> None:
        with pytest.raises(OSError, match="in use"):
            async with balancing(1, address=str(path)):
                raise AssertionError("it was bound")

    run(main())
    assert path.read_text() == "keep me"


def test_a_change_that_does_not_come_to_be_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new.sock"

    async def main() -> None:
        async with Origin() as origin, balancing(origin.port) as lb:
            spec = replace(
                lb.spec, listeners=(*lb.spec.listeners, replace(lb.spec.listeners[0], address=str(path), port=0))
            )
            prepared = await lb.proxy.prepare(spec)
            assert path.exists()
            prepared.abort()
            assert not path.exists()
            (await lb.proxy.prepare(spec)).commit()
            assert (await ask(path)).startswith(b"HTTP/1.1 200 ")
            (await lb.proxy.prepare(lb.spec)).commit()
            assert not path.exists()

    run(main())


@pytest.mark.parametrize("protocol", ["HTTP", "TCP"])
def test_a_target_on_a_unix_socket(tmp_path: Path, protocol: Any) -> None:
    path = tmp_path / "app.sock"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(serve, str(path))
        async with balancing(protocol=protocol, group={"protocol": protocol}) as lb:
            await lb.reload(targets=(TargetSpec(str(path), 0),))
            assert (await lb.exchange(GET)).startswith(b"HTTP/1.1 200 OK\r\n")
            (target,) = lb.group().targets
            assert target.key == f"unix:{path}"
            assert target.counters.requests == 1
            server.close()
            await server.wait_closed()
            answer = await lb.exchange(GET)
            assert answer.startswith(b"HTTP/1.1 502 ") if protocol == "HTTP" else answer == b""
            assert target.counters.failed == {"connect_failed": 1}

    run(main())
