"""The conformance checklist of DNS servers against these tests: each row over UDP and TCP, octet by octet, or its test.

Rows: F (the frame of a message), N (names), T (types and classes), E (EDNS), U (UDP), C (connections), R (resolvers).
Those that are one packet are in `support.dns_packets`; what it is answered with stands in expected_bytes.txt, a line
for each transport, or one where both get the same. `UPDATE_GOLDEN=1` writes it anew: every line is then worth a look.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock.dns import serial
from support import dns_packets as packets
from support.dns_net import LOCAL, over_tcp, over_udp, serving, udp_client
from support.loop import run

EXPECTED = Path(__file__).with_name("expected_bytes.txt")
TESTS = Path(__file__).parents[2]
ROW = re.compile(r"[FNTE]\d\d")


def rows(kind: str, *numbers: int | range) -> set[str]:
    flat = [n for each in numbers for n in (each if isinstance(each, range) else (each,))]
    return {f"{kind}{number:02}" for number in flat}


EVERY = (
    rows("F", range(1, 23))
    | rows("N", range(1, 15), 16, 17)
    | rows("T", range(1, 25))
    | rows("E", range(1, 19), 20)
    | rows("U", range(1, 7))
    | rows("C", range(1, 8))
    | rows("R", range(1, 8))
)

# Rows that more than one packet decides, or none.
TESTED: dict[str, tuple[str, ...]] = {
    "F04": ("wire/dns/test_transports.py::test_who_asks_for_a_cookie_alone_gets_it",),  # with cookies on
    "T07": ("wire/dns/test_checklist.py::test_each_packet_is_answered_octet_by_octet",),  # T06, over TCP
    "T20": ("wire/dns/test_forwarding.py::test_public_ones_are_asked",),  # with somebody to ask
    "T24": ("wire/dns/test_server.py::test_health_changes_the_next_answer",),  # nobody healthy
    "E17": ("wire/dns/test_transports.py::test_a_malformed_one_is_a_format_error",),  # with cookies on
    "U01": (
        "wire/dns/test_server.py::test_a_large_answer_comes_over_tcp_by_itself",
        "wire/dns/test_clients.py::test_getaddrinfo",
    ),
    "U02": ("wire/dns/test_faults.py::test_ten_thousand_instances_in_one_service",),
    "U03": ("wire/dns/test_faults.py::test_no_pointer_aims_beyond_what_it_can_reach",),
    "U04": ("wire/dns/test_server.py::test_a_source_port_of_0_is_survived",),
    "U05": ("wire/dns/test_faults.py::test_who_asks_from_a_servers_port_is_answered_and_never_twice",),
    "U06": ("wire/dns/test_faults.py::test_a_flood_in_somebodys_name_is_not_made_larger",),
    "C01": (
        "wire/dns/test_server.py::test_however_the_bytes_are_split",
        "wire/dns/test_split.py::test_a_stream_cut_anywhere_has_the_same_answers",
    ),
    "C02": ("wire/dns/test_server.py::test_many_queries_at_once",),
    "C03": (
        "wire/dns/test_server.py::test_what_is_not_a_query_closes_the_connection",
        "wire/dns/test_server.py::test_silence_and_a_byte_now_and_then_end_after_the_idle_timeout",
    ),
    "C04": ("wire/dns/test_server.py::test_a_client_that_never_reads_is_not_read_from",),
    "C05": ("wire/dns/test_server.py::test_a_half_closed_client_gets_its_answers_and_then_the_end",),
    "C06": (
        "wire/dns/test_server.py::test_one_address_has_a_limited_number_of_connections",
        "wire/dns/test_faults.py::test_clients_that_connect_and_say_nothing_hold_nobody_up",
    ),
    "C07": (
        "wire/dns/test_server.py::test_no_query_is_lost_over_twenty_reloads",
        "wire/dns/test_server.py::test_what_stays_is_not_touched_and_what_goes_is_closed",
    ),
    "R01": (
        "wire/dns/test_forwarder.py::test_what_is_not_the_answer_is_ignored_and_the_timer_goes_on",
        "wire/dns/test_forwarder.py::test_an_answer_from_another_address_is_not_heard",
        "wire/dns/test_forwarding.py::test_a_forged_answer_in_another_case_is_not_believed",
    ),
    "R02": ("wire/dns/test_forwarder.py::test_a_truncated_answer_is_fetched_over_tcp",),
    "R03": ("wire/dns/test_forwarder.py::test_a_resolver_without_edns_is_asked_without",),
    "R04": (
        "wire/dns/test_forwarder.py::test_a_resolver_that_fails_is_followed_by_the_next",
        "wire/dns/test_forwarder.py::test_a_silent_resolver_is_followed_by_the_next",
        "wire/dns/test_forwarding.py::test_an_answer_past_its_end_serves_when_no_resolver_does",
        "wire/dns/test_forwarding.py::test_the_client_is_told_why",
    ),
    "R05": ("wire/dns/test_forwarder.py::test_a_hundred_clients_with_one_question_ask_once",),
    "R06": ("wire/dns/test_forwarder.py::test_additional_records_of_strangers_are_not_relayed",),
    "R07": (
        "wire/dns/test_forwarder.py::test_forwarding_to_ourselves_is_refused_when_it_is_configured",
        "wire/dns/test_forwarder.py::test_a_loop_through_another_server_makes_no_storm",
    ),
}


def test_every_row_has_its_packet_or_its_test() -> None:
    of_packets = {name for case in packets.CASES for name in ROW.findall(case.name)}
    assert sorted(EVERY - of_packets - TESTED.keys()) == []
    assert TESTED.keys() <= EVERY
    for tests in TESTED.values():
        for test in tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (TESTS / file).read_text(), test


def test_each_packet_is_answered_octet_by_octet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by a server that nobody has asked before: so the rotation of instances is at its beginning."""
    monkeypatch.setattr(serial, "time", SimpleNamespace(time=lambda: 1))
    got: dict[str, bytes | None] = {}

    async def scenario() -> None:
        for case in packets.CASES:
            spec = packets.spec(listen=LOCAL)
            if case.rcode is not None:
                async with serving(spec) as server:
                    udp = await over_udp(server.bound[0], case.packet)
            else:
                udp = None
            async with serving(spec) as server:
                tcp = await over_tcp(server.bound[0], case.packet)
            transports = {"both": udp} if udp == tcp else {"udp": udp, "tcp": tcp}
            got.update({f"{case.name} | {transport}": reply for transport, reply in transports.items()})

    run(scenario())
    lines = [f"{name} | {reply.hex() if reply is not None else 'silence'}" for name, reply in got.items()]
    if os.environ.get("UPDATE_GOLDEN"):
        EXPECTED.write_text("\n".join(lines) + "\n")
    assert lines == EXPECTED.read_text().splitlines()


def test_silence_is_silence() -> None:
    """UDP: what comes back first is the answer to what was asked last."""

    async def scenario() -> None:
        async with serving(packets.spec(listen=LOCAL)) as server, udp_client(server.bound[0]) as (send, replies):
            silent = [case for case in packets.CASES if case.rcode is None]
            assert silent
            for case in silent:
                send(case.packet)
            send(packets.header(message_id=0xA11E) + packets.question())
            async with asyncio.timeout(5):
                assert (await replies.get())[:2] == b"\xa1\x1e"
            assert server.counters.dropped == {"short": 2, "response": 1}

    run(scenario())
