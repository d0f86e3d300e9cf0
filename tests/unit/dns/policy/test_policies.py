"""Who is answered, and in which order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns.choice import ANYWHERE, steps
from penstock.dns.instances import Instance
from penstock.dns.policy import multivalue, weighted
from penstock.dns.policy.eligible import eligible, without_standby
from penstock.dns.policy.order import Order
from penstock.dns.specs import InstanceSpec, RoutingPolicy, ServiceSpec


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
    live = [Instance(spec, healthy=spec.id[2:] not in unhealthy) for spec in instances(*weights)]
    assert "".join(each.spec.id[2:] for each in without_standby(eligible(live))) == answered


def turns(order: Order) -> list[tuple[int, ...]]:
    return [tuple(order.answer(place)) for place in range(len(order.places))]


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
    assert tuple(order[0] for order in turns(weighted.order(weights))) == firsts


def test_everybody_is_in_every_answer_and_standbys_come_last() -> None:
    for order in turns(weighted.order((3, 0, 1, 2))):
        assert sorted(order) == [0, 1, 2, 3]
        assert order[-1] == 1


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60))
def test_shares_of_first_places_are_the_weights(weights: list[int]) -> None:
    orders = turns(weighted.order(weights))
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
    orders = turns(weighted.order([1] * 300))
    assert {len(order) for order in orders} == {weighted.ANSWER_LIMIT}
    assert {order[0] for order in orders} == set(range(300))


@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 30])
def test_multivalue_answers_up_to_eight_and_everyone_is_first_equally_often(count: int) -> None:
    orders = turns(multivalue.order(count))
    assert [order[0] for order in orders] == list(range(count))
    for order in orders:
        assert len(set(order)) == len(order) == min(count, 8)
        assert all((b - a) % count == 1 for a, b in pairwise(order))


def chosen(policy: RoutingPolicy, *specs: InstanceSpec, sick: str = "") -> str:
    live = [Instance(spec, healthy=spec.id[2:] not in sick) for spec in specs]
    *_, (_, left) = steps(ServiceSpec("api", (), policy), live, ANYWHERE, {})
    return "".join(each.spec.id[2:] for each in left)


@pytest.mark.parametrize(
    ("sick", "answered"), [("", "01"), ("0", "1"), ("01", "2"), ("012", "3"), ("0123", "01"), ("2", "01"), ("013", "2")]
)
def test_secondaries_are_answered_when_no_primary_is_healthy(sick: str, answered: str) -> None:
    primary, secondary = instances(1, 1, 1, 0)[:2], instances(1, 1, 1, 0)[2:]
    assert (
        chosen("failover", *primary, *(replace(each, failover="secondary") for each in secondary), sick=sick)
        == answered
    )


def test_a_primary_with_weight_0_is_drained_to_the_secondaries() -> None:
    primary, secondary = instances(0, 1)
    assert chosen("failover", primary, replace(secondary, failover="secondary")) == "1"


def test_the_number_of_answers_can_be_chosen() -> None:
    assert [len(order) for order in turns(multivalue.order(30, 20))] == [20] * 30
    assert turns(weighted.order((3, 1), 1)) == [(0,), (0,), (1,), (0,)]
