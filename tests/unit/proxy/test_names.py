"""What is believed of a target's name: TTLs within bounds, the last good answer through every failure."""

from __future__ import annotations

import pytest

from penstock.proxy.names import DENIALS, MAX_ADDRESSES, RETRY, Answer, Denied, Failed, Name
from penstock.proxy.specs import NamedTargetSpec, TargetGroupSpec, TargetSpec
from penstock.proxy.targets import resolved

GOOD = Answer(("192.0.2.1", "192.0.2.2"), 30.0)
SERVFAIL = Failed("no resolver has an answer")
EMPTY = Answer((), 300.0)


def known(*outcomes: Answer | Denied | Failed) -> Name:
    name = Name()
    for outcome in outcomes:
        name.learn(outcome, 100.0)
    return name


@pytest.mark.parametrize(("ttl", "asked_again"), [(30.0, 130.0), (0.0, 101.0), (1.0, 101.0), (86400.0, 160.0)])
def test_it_is_asked_again_when_the_ttl_is_over_within_bounds(ttl: float, asked_again: float) -> None:
    assert known(Answer(("192.0.2.1",), ttl)).due == asked_again


@pytest.mark.parametrize("failure", [SERVFAIL, EMPTY])
def test_the_last_good_answer_outlives_any_number_of_failures(failure: Answer | Failed) -> None:
    name = known(GOOD, *[failure] * 100)
    assert name.addresses == GOOD.addresses
    assert name.due == 100.0 + RETRY
    assert name.trouble


def test_a_name_is_gone_when_it_was_denied_three_times_in_a_row() -> None:
    name = known(GOOD, *[Denied()] * (DENIALS - 1))
    assert name.addresses == GOOD.addresses
    assert name.learn(Denied(), 100.0)
    assert name.addresses == ()
    assert not name.learn(Denied(), 100.0)
    assert name.learn(GOOD, 100.0)
    assert not name.trouble


@pytest.mark.parametrize("between", [GOOD, SERVFAIL, EMPTY])
def test_denials_with_something_else_between_are_not_in_a_row(between: Answer | Failed) -> None:
    assert known(GOOD, *[Denied(), Denied(), between] * 3).addresses == GOOD.addresses


def test_askings_and_failures_are_counted_and_the_age_is_that_of_the_last_good_answer() -> None:
    name = known(SERVFAIL, Denied())
    assert (name.asked, name.failed, name.learned) == (2, 2, None)
    name.learn(GOOD, 150.0)
    name.learn(EMPTY, 160.0)
    assert (name.asked, name.failed, name.learned) == (4, 3, 150.0)


def test_the_order_of_addresses_is_no_change() -> None:
    assert not known(GOOD).learn(Answer(GOOD.addresses[::-1], 30.0), 200.0)
    assert known(GOOD).learn(Answer(GOOD.addresses[:1], 30.0), 200.0)


def test_no_answer_makes_targets_without_end() -> None:
    flood = Answer(tuple(f"2001:db8::{number:x}" for number in range(1000)), 30.0)
    assert len(known(flood).addresses) == MAX_ADDRESSES


def test_what_is_listed_twice_is_one_target() -> None:
    spec = TargetGroupSpec(
        "tg",
        targets=(TargetSpec("192.0.2.1", 80, weight=5),),
        named_targets=(NamedTargetSpec("a", 80, zone="z"), NamedTargetSpec("b", 80), NamedTargetSpec("c", 80)),
    )
    addresses = {"a": ("192.0.2.1", "192.0.2.2"), "b": ("192.0.2.2", "2001:db8::1")}
    assert resolved(spec, addresses).targets == (
        TargetSpec("192.0.2.1", 80, weight=5),
        TargetSpec("192.0.2.2", 80, zone="z"),
        TargetSpec("2001:db8::1", 80),
    )
