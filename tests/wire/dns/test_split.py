"""A stream is the same messages wherever it is cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.dns.answers import Answers
from penstock.dns.cache import Cache
from penstock.dns.counters import DnsCounters
from penstock.dns.forwarder import Forwarder
from penstock.dns.responder import Responder
from penstock.dns.tcp import Connections, DnsStream
from support import dns_packets as packets
from support.dns_net import framed
from support.loop import run

ASKED = [case for case in packets.CASES if case.rcode is not None]


class Wire(asyncio.Transport):
    """Takes what is written; who reads it is never slow."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def answers_to(parts: list[bytes]) -> bytes:
    """What a server that nobody has asked before says to a stream that comes in these parts."""

    async def scenario() -> bytes:
        counters = DnsCounters()
        answers = Answers(packets.spec(), lambda _: True, 1)
        connections = Connections(
            asyncio.get_running_loop(), Responder(answers, Forwarder(Cache(), counters), counters)
        )
        stream = cast("DnsStream", connections.admit("127.0.0.1", lambda: DnsStream(connections, "127.0.0.1")))
        wire: Any = Wire()
        stream.connection_made(wire)
        for part in parts:
            stream.data_received(part)
            while stream._scheduled:  # more messages at once than a turn answers
                await asyncio.sleep(0)
        stream.connection_lost(None)
        await connections.stop()
        assert counters.tcp_active == 0
        return wire.written

    return run(scenario())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(ASKED), min_size=1, max_size=80), st.lists(st.integers(0, 4000), max_size=12))
def test_a_stream_cut_anywhere_has_the_same_answers(cases: list[packets.Case], cuts: list[int]) -> None:
    stream = b"".join(framed(case.packet) for case in cases)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    whole = answers_to([stream])
    assert answers_to([stream[a:b] for a, b in pairwise(places)]) == whole
    at = 0
    for case in cases:  # in order, for nothing is forwarded
        size = int.from_bytes(whole[at : at + 2])
        packets.check(case, whole[at + 2 : at + 2 + size], transport="tcp")
        at += 2 + size
    assert at == len(whole)


def test_octet_by_octet() -> None:
    stream = b"".join(framed(case.packet) for case in ASKED)
    assert answers_to([stream[at : at + 1] for at in range(len(stream))]) == answers_to([stream])
