"""The conformance and smuggling checklist against the rows of these tests: each case in each position, or why not.

The cases are those that two parsers once read in two ways: TE (Transfer-Encoding), CL (Content-Length), CH (chunks), RQ
(request line, fields, Host, limits), S (what needs both ends of a connection) and H (HTTP/2). A row bears its case's
name. HTTP/2 as the front and HTTP/2 turned into HTTP/1 are one set of rows: each says what the client gets and what the
origin sees.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FRAMING = "support/framing_rows.py"  # rows of requests and answers alike
FILES: dict[str, tuple[str, ...]] = {
    "HTTP/1": ("wire/test_http1_refused.py", "wire/test_http1_forwarded.py", FRAMING),
    "HTTP/2": ("wire/test_http2_refused.py", "wire/test_http2_forwarded.py"),
    "answers": ("wire/test_origin_answers.py", "wire/test_http1_forwarded.py", FRAMING),
}
NAME = re.compile(r"\b(?:TE|CL|CH|RQ)-\d\d\b|\bH\d\d\b")


def cases(kind: str, *numbers: int | range) -> set[str]:
    flat = [n for each in numbers for n in (each if isinstance(each, range) else (each,))]
    return {f"{kind}{number:02}" for number in flat}


EVERY = (
    cases("TE-", range(1, 21))
    | cases("CL-", range(1, 23))
    | cases("CH-", range(1, 28))
    | cases("RQ-", range(1, 48))
    | cases("H", range(1, 13))
)

# Why a case has no row in a position.
NOT_SAID: dict[str, dict[str, set[str]]] = {
    "HTTP/1": {"of HTTP/2": cases("H", range(1, 13))},
    "HTTP/2": {
        "there are frames instead of chunks; H03 says what they may hold": cases("CH-", range(1, 28)),
        "there is no version to say": cases("TE-", 17) | cases("RQ-", range(25, 30), 38),
        "there are no lines": cases("RQ-", 1, 9, 33, 34),
    },
    "answers": {
        "of requests: what is asked for, and of whom": cases("RQ-", range(12, 24), 31, 32, 35, 39, 40, 42, 45, 46, 47),
        "an answer's line ends with any text": cases("RQ-", 25, 30),
        "of requests, or of clients: their streams, floods and pseudo-headers": cases("H", range(5, 13)),
    },
}

# The cases that need both ends of a connection, and the tests that are theirs.
BOTH_ENDS: dict[str, tuple[str, ...]] = {
    "S01": (
        "scenario/test_http_connections.py::test_s01_pipelined_requests_are_answered_in_order",
        "scenario/test_http2.py::test_streams_are_answered_as_they_finish",
    ),
    "S02": ("wire/test_http1_refused.py::test_refused", "wire/test_http2_refused.py::test_refused"),
    "S03": ("scenario/test_http_connections.py::test_s03_an_early_answer_survives_the_body_it_did_not_read",),
    "S04": (
        "scenario/test_http_connections.py::test_s04_expect_continue_is_relayed",
        "scenario/test_http_connections.py::test_s04_final_answer_instead_of_continue_ends_both_connections",
        "wire/test_http1_refused.py::test_refused",
    ),
    "S05": ("scenario/test_faults.py::test_an_origin_that_answers_early_is_relayed_and_its_connection_ends",),
    "S06": (
        "wire/test_http1_forwarded.py::test_answer",
        "wire/test_origin_answers.py::test_a_head_that_is_wrong_is_502",
        "wire/test_origin_answers.py::test_an_answer_over_http2_that_is_wrong",
    ),
    "S07": (
        "scenario/test_http_connections.py::test_s07_websocket_tunnels_after_101",
        "scenario/test_http_connections.py::test_s07_refused_upgrade_keeps_http_framing",
        "scenario/test_http2.py::test_websocket_over_a_stream",
    ),
    "S08": (
        "wire/test_http1_forwarded.py::test_answer",
        "wire/test_http1_forwarded.py::test_head_request_has_no_body",
        "wire/test_origin_answers.py::test_answers_without_a_body_have_none_over_http2",
    ),
    "S09": (
        "wire/test_origin_answers.py::test_a_head_that_is_wrong_is_502",
        "wire/test_origin_answers.py::test_a_chunk_that_is_wrong_cuts_the_answer",
    ),
    "S10": (
        "wire/test_http1_forwarded.py::test_answer",
        "scenario/test_http_connections.py::test_s10_a_byte_on_an_idle_connection_ends_it",
        "scenario/test_faults.py::test_an_origin_that_speaks_before_it_is_asked_is_not_believed_by_the_next_client",
    ),
    "S11": (
        "wire/test_http1_forwarded.py::test_answer_cut_short_is_seen_to_be_cut",
        "scenario/test_faults.py::test_an_origin_that_fails",
    ),
    "S12": (
        "wire/test_http1_forwarded.py::test_http10_client_gets_content_not_chunks",
        "wire/test_http1_forwarded.py::test_http10_client_keeps_its_connection_when_it_asks",
    ),
    "S13": ("wire/test_http1_forwarded.py::test_answer",),
    "S14": (
        "wire/test_http1_forwarded.py::test_head",
        "wire/test_http1_forwarded.py::test_answer",
        "wire/test_http2_forwarded.py::test_head",
    ),
    "S15": ("wire/test_http1_forwarded.py::test_chunked_request", "wire/test_http2_forwarded.py::test_head"),
    "S16": (
        "scenario/test_rules.py::test_a_rewrite_that_makes_no_path_is_a_500_and_the_connection_stays",
        "fuzz/test_entries.py::test_corpus",
    ),
    "S17": ("wire/test_http1_forwarded.py::test_the_path_that_rules_look_at_is_the_one_that_is_sent",),
    "S18": (
        "scenario/test_http_connections.py::test_s18_a_post_is_not_sent_twice",
        "scenario/test_retries.py::test_what_is_not_repeated",
    ),
    "S19": ("scenario/test_http_connections.py::test_s19_stale_connection_never_becomes_a_502",),
    "S20": (
        "scenario/test_http_time.py::test_s20_a_head_that_drips_is_408",
        "scenario/test_http_time.py::test_a_client_that_stops_reading_is_cut_off",
        "scenario/test_limits.py::test_a_body_that_drips_is_408_and_one_that_the_target_holds_up_is_not",
        "scenario/test_limits.py::test_more_connections_than_a_listener_takes_are_closed",
    ),
    "S21": (
        "scenario/test_proxy_protocol.py::test_required_means_required",
        "scenario/test_proxy_protocol.py::test_a_stranger_is_not_believed_and_not_let_in",
        "scenario/test_proxy_protocol.py::test_the_header_comes_before_tls",
    ),
    "S22": ("scenario/test_tls.py::test_a_host_of_another_certificate_is_misdirected",),
}


@pytest.mark.parametrize("position", FILES)
def test_each_case_has_a_row_or_a_reason(position: str) -> None:
    rows = {name for file in FILES[position] for name in NAME.findall((TESTS / file).read_text())}
    excused = set().union(*NOT_SAID[position].values())
    assert rows <= EVERY
    assert sorted(EVERY - rows - excused) == []


def test_cases_that_need_both_ends_have_their_tests() -> None:
    assert BOTH_ENDS.keys() == cases("S", range(1, 23))
    for tests in BOTH_ENDS.values():
        for test in tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (TESTS / file).read_text(), test
