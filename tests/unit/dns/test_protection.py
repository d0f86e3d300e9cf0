"""Cookies, the limit of equal answers, top names: by the clock that the test says."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address

import dns.edns
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns import response_rate
from penstock.dns.cookies import AHEAD, LIFETIME, answer_cookie, is_well_formed, server_cookie, siphash24
from penstock.dns.query_log import name_text
from penstock.dns.response_rate import ResponseRate, Verdict
from penstock.dns.top_names import Counted, TopNames
from penstock.dns.transport_specs import ResponseRateSpec
from penstock.dns.wire import (
    Question,
    append_option,
    bare_reply,
    encode_name,
    find_option,
    read_query,
    with_option_removed,
)
from support import dns_packets as packets

SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
MINE = bytes.fromhex("2464c4abcf10c957")
ADDRESS = ip_address("198.51.100.100").packed
THEN = 1559731985


def test_siphash_is_the_reference() -> None:
    """The last of the vectors in the authors' code, and its first."""
    key = bytes(range(16))
    assert siphash24(key, b"") == bytes.fromhex("310e0edd47db6f72")
    assert siphash24(key, bytes(range(15))) == bytes.fromhex("e545be4961ca29a1")


@pytest.mark.parametrize(
    ("secret", "mine", "address", "now", "expected"),
    [
        (SECRET, MINE, "198.51.100.100", THEN, "010000005cf79f111f8130c3eee29480"),
        (
            bytes.fromhex("dd3bdf9344b678b185a6f5cb60fca715"),
            bytes.fromhex("22681ab97d52c298"),
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1559741817,
            "010000005cf7c57926556bd0934c72f8",
        ),
        (
            bytes.fromhex("445536bcd2513298075a5d379663c962"),
            bytes.fromhex("22681ab97d52c298"),
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            1559741961,
            "010000005cf7c609a6bb79d16625507a",
        ),
    ],
)
def test_the_examples_of_rfc_9018(secret: bytes, mine: bytes, address: str, now: int, expected: str) -> None:
    assert server_cookie(secret, mine, ip_address(address).packed, now).hex() == expected


@pytest.mark.parametrize(
    ("age", "good", "renewed"),
    [(0, True, False), (LIFETIME // 2, True, False), (LIFETIME // 2 + 1, True, True), (LIFETIME, True, True),
     (LIFETIME + 1, False, True), (-AHEAD, True, False), (-AHEAD - 1, False, True)],
)  # fmt: skip
def test_a_cookie_is_good_for_an_hour_and_renewed_in_its_second_half(age: int, good: bool, renewed: bool) -> None:
    cookie = MINE + server_cookie(SECRET, MINE, ADDRESS, THEN)
    given, known = answer_cookie(SECRET, cookie, ADDRESS, THEN + age)
    assert known == good
    assert (given != cookie) == renewed
    assert given[:8] == MINE
    assert answer_cookie(SECRET, given, ADDRESS, THEN + age) == (given, True)


@pytest.mark.parametrize(
    ("cookie", "address"),
    [
        (MINE, ADDRESS),
        (MINE + server_cookie(SECRET, MINE, ADDRESS, THEN), b"\xc6\x33\x64\x65"),
        (MINE + server_cookie(bytes(16), MINE, ADDRESS, THEN), ADDRESS),
        (bytes(8) + server_cookie(SECRET, MINE, ADDRESS, THEN), ADDRESS),
        (MINE + b"\2" + server_cookie(SECRET, MINE, ADDRESS, THEN)[1:], ADDRESS),
        (MINE + b"\1" * 32, ADDRESS),
    ],
)
def test_what_we_did_not_give_to_this_address_is_not_good(cookie: bytes, address: bytes) -> None:
    given, known = answer_cookie(SECRET, cookie, address, THEN)
    assert not known
    assert len(given) == 24


def test_years_that_do_not_fit_in_32_bits() -> None:
    then = (1 << 32) - 100
    cookie = MINE + server_cookie(SECRET, MINE, ADDRESS, then)
    assert answer_cookie(SECRET, cookie, ADDRESS, then + 200)[1]


def test_the_sizes_that_rfc_7873_allows() -> None:
    assert [size for size in range(60) if is_well_formed(bytes(size))] == [8, *range(16, 41)]


class TestOptions:
    def test_one_is_found_and_taken_out_and_the_others_stay(self) -> None:
        others = packets.option(3), packets.option(10, MINE), packets.option(65001, b"xyz")
        packet = packets.edns_query(options=b"".join(others), size=1400)
        question = read_query(packet)
        assert isinstance(question, Question)
        found = find_option(packet, question, 10)
        assert found is not None
        at, data = found
        assert data == MINE
        assert find_option(packet, question, 11) is None
        stripped = with_option_removed(packet, question, at, reserve=28)
        assert stripped == packets.edns_query(options=others[0] + others[2], size=1232 - 28)

    def test_one_is_put_into_an_answer(self) -> None:
        packet = packets.edns_query(ttl=0x8000)
        question = read_query(packet)
        assert isinstance(question, Question)
        for options in (b"", packets.option(15, b"\0\3")):
            reply = append_option(bare_reply(question, 5, options), 10, bytes(24))
            read = dns.message.from_wire(reply)
            assert [option.otype for option in read.options] == [*([dns.edns.OptionType.EDE] if options else []), 10]
            assert read.ednsflags & 0x8000

    def test_an_answer_without_edns_stays_as_it_is(self) -> None:
        question = read_query(packets.query())
        assert isinstance(question, Question)
        assert append_option(bare_reply(question, 5), 10, bytes(24)) == bare_reply(question, 5)


DATA = b"\0\0\x81\x80\0\1\0\1\0\0\0\0"
NXDOMAIN = b"\0\0\x81\x83\0\1\0\0\0\1\0\0"
FIRST, NEIGHBOUR, FAR = b"\xc0\0\2\1", b"\xc0\0\2\x63", b"\xc0\0\3\1"


class TestResponseRate:
    def test_a_network_gets_so_many_equal_answers_in_a_second(self) -> None:
        rate = ResponseRate(ResponseRateSpec(3, slip=0))
        verdicts = [rate.judge(address, DATA, b"a", 0.0) for address in (FIRST, NEIGHBOUR, FIRST, NEIGHBOUR, FIRST)]
        assert verdicts == [Verdict.SEND] * 3 + [Verdict.DROP] * 2
        assert rate.judge(FAR, DATA, b"a", 0.0) is Verdict.SEND
        assert rate.judge(FIRST, DATA, b"b", 0.0) is Verdict.SEND

    def test_names_that_are_not_there_are_one_answer(self) -> None:
        rate = ResponseRate(ResponseRateSpec(1, slip=0))
        assert rate.judge(FIRST, NXDOMAIN, b"a", 0.0) is Verdict.SEND
        assert rate.judge(FIRST, NXDOMAIN, b"b", 0.0) is Verdict.DROP
        assert rate.judge(FIRST, DATA, b"a", 0.0) is Verdict.SEND

    def test_every_second_one_too_many_slips(self) -> None:
        rate = ResponseRate(ResponseRateSpec(1, slip=2))
        verdicts = [rate.judge(FIRST, DATA, b"a", 0.0) for _ in range(5)]
        assert verdicts == [Verdict.SEND, Verdict.DROP, Verdict.SLIP, Verdict.DROP, Verdict.SLIP]

    def test_excess_is_held_against_it_for_fifteen_seconds_at_most(self) -> None:
        rate = ResponseRate(ResponseRateSpec(10, slip=0))
        for _ in range(10_000):
            rate.judge(FIRST, DATA, b"a", 0.0)
        assert rate.judge(FIRST, DATA, b"a", 14.9) is Verdict.DROP
        assert rate.judge(FIRST, DATA, b"a", 15.5) is Verdict.SEND

    def test_memory_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(response_rate, "ACCOUNTS", 10)
        rate = ResponseRate(ResponseRateSpec(1))
        for number in range(1000):
            rate.judge(FIRST, DATA, b"%d" % number, 0.0)
        assert len(rate) == 10

    def test_ipv6_networks_are_56_bits_long(self) -> None:
        rate = ResponseRate(ResponseRateSpec(1, slip=0))
        one, same, other = (ip_address(f"2001:db8:0:{net}::1").packed for net in ("0", "ff", "100"))
        assert [rate.judge(address, DATA, b"a", 0.0) for address in (one, same, other)] == [
            Verdict.SEND, Verdict.DROP, Verdict.SEND,
        ]  # fmt: skip


def test_the_names_asked_for_most_are_found_in_a_flood() -> None:
    top = TopNames(10)
    for number in range(1000):
        top.count(b"often")
        top.count(b"random-%d" % number)
        if number % 2:
            top.count(b"sometimes")
    often, sometimes, *_ = top.most(10)
    assert often == Counted(b"often", 1000, 0)
    assert sometimes.name == b"sometimes"
    assert sometimes.times - sometimes.error <= 500 <= sometimes.times
    assert len(top.most(100)) == 10


def test_names_are_written_as_in_zone_files() -> None:
    assert name_text(encode_name("www.example.org")) == "www.example.org."
    assert name_text(b"\x04a.b\xff\0") == "a\\046b\\255."
    assert name_text(b"\0") == "."


@given(
    st.lists(st.lists(st.sampled_from([bytes((n,)) for n in range(12)]), max_size=80), max_size=4), st.integers(1, 12)
)
def test_names_counted_by_several_are_never_too_few_and_too_many_by_the_error(
    asked: list[list[bytes]], told: int
) -> None:
    total = TopNames(100)
    for names in asked:
        each = TopNames(8)
        for name in names:
            each.count(name)
        total.add(each.head(told))
    truth = Counter(name for names in asked for name in names)
    found = {counted.name: counted for counted in total.most(100)}
    for name, counted in found.items():
        assert truth[name] <= counted.times <= truth[name] + counted.error
    assert all(times <= total.least for name, times in truth.items() if name not in found)
