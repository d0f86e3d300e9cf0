"""Passive ejection: when, how long, how many, and never the last. Time is given by hand."""

from __future__ import annotations

import pytest

from penstock.proxy.outliers import Conduct, judge
from penstock.proxy.specs import OutlierSpec

SPEC = OutlierSpec()


def group(size: int, *failing: int) -> list[Conduct]:
    conducts = [Conduct() for _ in range(size)]
    for index in failing:
        fail(conducts[index])
    return conducts


def fail(conduct: Conduct, times: int = 5) -> None:
    for _ in range(times):
        conduct.observe(failed=True)


def ejected(conducts: list[Conduct], now: float = 0.0, spec: OutlierSpec = SPEC, failing_checks: str = "") -> list[int]:
    passes = [str(index) not in failing_checks for index in range(len(conducts))]
    judge([*zip(conducts, passes, strict=True)], spec, now)
    return [index for index, conduct in enumerate(conducts) if conduct.ejected]


def test_only_failures_in_a_row_count() -> None:
    conducts = group(10)
    fail(conducts[3], 4)
    conducts[3].observe(failed=False)
    fail(conducts[3], 4)
    assert ejected(conducts) == []
    fail(conducts[3], 1)
    assert ejected(conducts) == [3]


@pytest.mark.parametrize(("size", "most"), [(1, 0), (2, 0), (3, 1), (10, 1), (19, 1), (20, 2), (100, 10)])
def test_few_are_out_at_a_time(size: int, most: int) -> None:
    assert len(ejected(group(size, *range(size)))) == most


def test_the_last_that_works_is_never_ejected() -> None:
    spec = OutlierSpec(max_ejection_percentage=100)
    assert ejected(group(4, 0, 1, 2, 3), spec=spec) == [0, 1, 2]
    assert ejected(group(4, 3), spec=spec, failing_checks="012") == []  # the others fail their checks
    assert ejected(group(4, 2, 3), spec=spec, failing_checks="01") == [2]


def test_each_time_is_longer_up_to_the_longest_and_is_forgiven_over_time() -> None:
    conducts = group(3)
    now, times = 0.0, []
    for _ in range(12):
        fail(conducts[0])
        assert ejected(conducts, now) == [0]
        out = conducts[0].until - now
        assert ejected(conducts, now + out - 1) == [0]
        now += out
        times.append(out)
        assert ejected(conducts, now) == []
    assert times == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    for _ in range(11):  # eleven calm stretches take eleven off
        now += 30
        ejected(conducts, now)
    fail(conducts[0])
    ejected(conducts, now)
    assert conducts[0].until - now == 60


def test_who_returns_begins_with_a_clean_sheet() -> None:
    conducts = group(3, 0)
    ejected(conducts, 0.0)
    assert ejected(conducts, 30.0) == []
    fail(conducts[0], 4)
    assert ejected(conducts, 31.0) == []


def test_it_says_when_something_changed() -> None:
    conducts = group(3, 0)
    pairs = [(conduct, True) for conduct in conducts]
    assert [judge(pairs, SPEC, now) for now in (0.0, 1.0, 29.0, 30.0, 31.0)] == [True, False, False, True, False]
