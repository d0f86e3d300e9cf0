"""Who is answered, and in which order."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns.policy import multivalue, weighted
from penstock.dns.policy.eligible import eligible
from penstock.dns.specs import InstanceSpec


def instances(*weights: int) -> tuple[InstanceSpec, ...]:
    return tuple(InstanceSpec(f"i-{n}", f"192.0.2.{n}", 80, weight=w) for n, w in enumerate(weights))


@pytest.mark.parametrize(
    ("weights", "unhealthy", "answered"),
    [
        ((1, 1), "", "01"),
        ((1, 1), "0", "1"),
        ((1, 1), "01", "01"),  # fail open
        ((1, 0), "", "0"),  # standby
        ((1, 0), "0", "1"),
        ((1, 0), "1", "0"),
        ((1, 0), "01", "01"),
        ((0, 0), "", "01"),
        ((0, 0), "0", "1"),
        ((1, 0, 0), "02", "1"),
        ((), "", ""),
    ],
)
def test_health_and_standby_decide_who_may_be_answered(weights: tuple[int, ...], unhealthy: str, answered: str) -> None:
    chosen = eligible(instances(*weights), lambda instance: instance.id[2:] not in unhealthy)
    assert "".join(instance.id[2:] for instance in chosen) == answered


@pytest.mark.parametrize(
    ("weights", "firsts"),
    [
        ((3, 1), (0, 0, 1, 0)),
        ((1, 1), (0, 1)),
        ((2, 1, 1), (0, 1, 2, 0)),
        ((0, 0), (0, 1)),
        ((5, 0), (0, 0, 0, 0, 0)),
        ((), ()),
    ],
)
def test_first_places_follow_weight_and_are_spread(weights: tuple[int, ...], firsts: tuple[int, ...]) -> None:
    assert tuple(order[0] for order in weighted.turns(weights)) == firsts


def test_everybody_is_in_every_answer_and_standbys_come_last() -> None:
    for order in weighted.turns((3, 0, 1, 2)):
        assert sorted(order) == [0, 1, 2, 3]
        assert order[-1] == 1


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60))
def test_shares_of_first_places_are_the_weights(weights: list[int]) -> None:
    orders = weighted.turns(weights)
    firsts = Counter(order[0] for order in orders)
    counted = weights if any(weights) else [1] * len(weights)
    for index, weight in enumerate(counted):
        share = weight / sum(counted)
        # None has less than one place; that, and rounding, is all that a share may be off.
        assert abs(firsts[index] / len(orders) - share) <= 0.02 + (1 / len(orders) if weight else 0)
        assert bool(firsts[index]) == bool(weight)
    for order in orders:
        assert sorted(order) == list(range(len(weights)))


def test_a_large_pool_is_capped_per_answer_and_nobody_is_left_out() -> None:
    orders = weighted.turns([1] * 300)
    assert {len(order) for order in orders} == {weighted.ANSWER_LIMIT}
    assert {order[0] for order in orders} == set(range(300))


@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 30])
def test_multivalue_answers_up_to_eight_and_everyone_is_first_equally_often(count: int) -> None:
    orders = multivalue.turns(count)
    assert [order[0] for order in orders] == list(range(count))
    for order in orders:
        assert len(set(order)) == len(order) == min(count, 8)
        assert all((b - a) % count == 1 for a, b in pairwise(order))
