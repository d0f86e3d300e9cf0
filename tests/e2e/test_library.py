"""docs/library.md: the programs in it run as they stand, on ports of the test's own."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message

from support import Origin, free_port, response, run

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def loaded(program: str) -> Any:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(program, str(PAGE), "exec"), names)
    return names["main"]


def test_the_page_keeps_its_word() -> None:
    assert len(programs()) == 2
    for program in programs():
        assert len([line for line in program.splitlines() if line.strip()]) <= 25


def test_load_balancer() -> None:
    async def main() -> None:
        async with Origin(response(b"one")) as one, Origin(response(b"two")) as two:
            port = free_port()
            program = programs()[0].replace("9001", str(one.port)).replace("9002", str(two.port))
            serving = asyncio.create_task(loaded(program.replace("8080", str(port)))())
            reader, writer = await _connected(port)
            writer.write(b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n")
            assert (await reader.read())[-3:] in (b"one", b"two")
            writer.close()
            await _ended(serving)

    run(main())


def test_dns_server() -> None:
    async def main() -> None:
        port = free_port()
        serving = asyncio.create_task(loaded(programs()[1].replace("8053", str(port)))())
        _, writer = await _connected(port)
        writer.close()
        query = dns.message.make_query("api.services.", "A")
        answer = await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=5)
        assert [str(record) for record in answer.answer[0]] == ["192.0.2.10"]
        assert answer.answer[0].ttl == 5
        await _ended(serving)

    run(main())


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with suppress(ConnectionRefusedError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.01)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
