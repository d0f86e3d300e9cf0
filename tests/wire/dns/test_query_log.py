"""The query log while its file is moved away."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from penstock.dns.transport_specs import QueryLogSpec, TransportSpec
from support import dns_packets as packets
from support.dns_net import LOCAL, PATIENCE, over_udp, serving
from support.loop import run


def lines_in(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else -1


def names_in(file: Path) -> list[str]:
    return [json.loads(line)["name"].partition(".")[0] for line in file.read_text().splitlines()]


async def written(file: Path, lines: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while lines_in(file) < lines:
            await asyncio.sleep(0.005)


def test_it_is_begun_anew_when_it_can_be_and_goes_on_where_it_was_when_not(tmp_path: Path) -> None:
    path, first, second = tmp_path / "queries.log", tmp_path / "queries.log.1", tmp_path / "queries.log.2"

    async def scenario() -> None:
        spec = packets.spec(listen=LOCAL, transport=TransportSpec(query_log=QueryLogSpec(str(path))))
        async with serving(spec) as server:
            await over_udp(server.bound[0], packets.query("api.corp.internal"))
            await written(path, 1)
            path.rename(first)
            server.reopen_query_log()
            await written(path, 0)
            await over_udp(server.bound[0], packets.query("big.corp.internal"))
            await written(path, 1)
            path.rename(second)
            path.mkdir()
            server.reopen_query_log()
            await over_udp(server.bound[0], packets.query("none.corp.internal"))
            await written(second, 2)

    run(scenario())
    assert [names_in(first), names_in(second)] == [["api"], ["big", "none"]]
