"""Which resolver is first, who rests, and how long one waits before asking another."""

from __future__ import annotations

import pytest

from penstock.dns.forwarding_specs import ForwardZoneSpec
from penstock.dns.selection import (
    FAILURES,
    HEDGE_FLOOR,
    HEDGE_UNKNOWN,
    REST_LIMIT,
    SAMPLES_LEAST,
    Routes,
    Track,
    in_order,
)
from penstock.dns.spelling import folded, mixed
from penstock.dns.wire import encode_name

ONE, OTHER, THIRD = ("192.0.2.1", 53), ("192.0.2.2", 53), ("2001:db8::3", 53)


def test_the_one_written_first_is_asked_first_while_nothing_is_known() -> None:
    tracks = [Track(ONE), Track(OTHER)]
    assert in_order(tracks, 0.0) == tracks


def test_the_quicker_one_is_asked_first_and_the_slower_gets_its_chance_in_time() -> None:
    slow, quick = Track(ONE), Track(OTHER)
    slow.answered(0.2, 0.0)
    quick.answered(0.04, 0.0)
    assert in_order([slow, quick], 0.0) == [quick, slow]
    quick.answered(0.04, 240.0)
    assert in_order([slow, quick], 240.0) == [slow, quick]


def test_one_that_fails_comes_last_and_rests_longer_each_time() -> None:
    bad, good = Track(ONE), Track(OTHER)
    good.answered(3.0, 0.0)
    for _ in range(FAILURES - 1):
        bad.failed(1.5, 0.0)
    assert not bad.rests(0.0)
    bad.failed(1.5, 0.0)
    assert bad.rests(1.9)
    assert not bad.rests(2.0)
    assert in_order([bad, good], 1.0) == [good, bad]
    bad.failed(1.5, 10.0)
    assert bad.rests(13.9)
    for _ in range(50):
        bad.failed(1.5, 20.0)
    assert not bad.rests(20.0 + REST_LIMIT)
    bad.answered(0.01, 21.0)
    assert not bad.rests(21.0)


def test_another_is_asked_after_one_and_a_half_times_the_95th_percentile() -> None:
    track = Track(ONE)
    for _ in range(SAMPLES_LEAST - 1):
        track.answered(0.1, 0.0)
        assert track.hedge_after() == HEDGE_UNKNOWN
    track.answered(0.1, 0.0)
    assert track.hedge_after() == pytest.approx(0.15)
    for latency in [0.2] * 60 + [9.0] * 3:
        track.answered(latency, 0.0)
    assert track.hedge_after() == pytest.approx(0.3)
    near = Track(OTHER)
    for _ in range(SAMPLES_LEAST):
        near.answered(0.0001, 0.0)
    assert near.hedge_after() == HEDGE_FLOOR


@pytest.mark.parametrize(
    ("name", "expected"),
    [("www.example.org", OTHER), ("example.org", OTHER), ("a.lab.example.org", THIRD), ("example.com", ONE)],
)
def test_the_longest_zone_says_who_is_asked(name: str, expected: tuple[str, int]) -> None:
    zones = (ForwardZoneSpec("Example.org", (OTHER,)), ForwardZoneSpec("lab.example.org", (THIRD,)))
    routes = Routes((ONE,), zones)
    assert [track.address for track in routes.resolvers_of(encode_name(name))] == [expected]


def test_what_was_learnt_of_a_resolver_stays() -> None:
    before = Routes((ONE,))
    after = Routes((OTHER, ONE), (), before)
    assert after.tracks[ONE] is before.tracks[ONE]
    assert after.tracks[OTHER].name == "192.0.2.2:53"
    assert Track(THIRD).name == "[2001:db8::3]:53"


SECTION = encode_name("www-1.example.org") + b"\0\1\0\1"


def test_bits_turn_the_case_of_letters_and_of_nothing_else() -> None:
    assert mixed(SECTION, bytes(16)) == SECTION
    assert mixed(SECTION, b"\xff" * 16) == encode_name("WWW-1.EXAMPLE.ORG") + b"\0\1\0\1"
    long = encode_name(".".join(["Aa" * 31] * 4)) + b"\0\x61\0\1"
    turned = mixed(long, b"\xaa" * 16)
    assert turned != long
    assert turned.lower()[:-4] == long.lower()[:-4]
    assert turned[-4:] == long[-4:], "a type that looks like a letter is none"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"\0\7" + bytes(10) + SECTION, False),  # as it was asked
        (b"\0\7" + bytes(10) + mixed(SECTION, b"\xff" * 16), True),
        (b"\0\6" + bytes(10) + mixed(SECTION, b"\xff" * 16), False),
        (b"\0\7" + bytes(10) + mixed(SECTION, b"\xff" * 16)[:-1] + b"\2", False),
        (b"\0\7" + bytes(10) + encode_name("www-2.example.org") + b"\0\1\0\1", False),
        (b"\0\7", False),
    ],
)
def test_an_answer_in_another_case_is_recognised(packet: bytes, expected: bool) -> None:
    assert folded(packet, 7, SECTION) == expected
