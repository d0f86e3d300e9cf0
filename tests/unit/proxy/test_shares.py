"""What becomes of a target's weight: slow start, and how much of the work stays in the own zone."""

from __future__ import annotations

import pytest

from penstock.proxy.balancing.slow_start import Warmth
from penstock.proxy.balancing.zones import zone_factors


def test_a_target_that_joins_warm_ones_ramps_up() -> None:
    warmth = Warmth(founder=False)
    warmth.update(100.0, healthy=True, beside_warm=True)
    assert [warmth.percent(now, 60.0) for now in (100.0, 106.0, 130.0, 159.9, 160.0)] == [1, 10, 50, 99, 100]
    assert warmth.warm


def test_the_first_targets_of_a_group_begin_at_full() -> None:
    founder = Warmth(founder=True)
    founder.update(1.0, healthy=False, beside_warm=False)
    founder.update(2.0, healthy=True, beside_warm=True)  # another founder was a second faster
    assert founder.percent(2.0, 60.0) == 100
    founder.update(3.0, healthy=False, beside_warm=True)
    founder.update(4.0, healthy=True, beside_warm=True)  # but only the first time
    assert founder.percent(4.0, 60.0) == 1


def test_with_nobody_warm_beside_it_there_is_nothing_to_wait_for() -> None:
    warmth = Warmth(founder=False)
    warmth.update(1.0, healthy=True, beside_warm=False)
    assert (warmth.warm, warmth.percent(1.0, 60.0)) == (True, 100)


def test_who_becomes_unhealthy_begins_again() -> None:
    warmth = Warmth(founder=False)
    warmth.update(0.0, healthy=True, beside_warm=True)
    warmth.update(50.0, healthy=False, beside_warm=True)
    assert not warmth.warm
    assert warmth.percent(50.0, 60.0) == 100  # used only when nobody is healthy, and then wholly
    warmth.update(70.0, healthy=True, beside_warm=True)
    warmth.update(71.0, healthy=True, beside_warm=True)  # to be told again changes nothing
    assert warmth.percent(100.0, 60.0) == 50


@pytest.mark.parametrize(
    ("own_usable", "own_all", "others", "percent"),
    [
        (10, 10, 10, 100),
        (8, 10, 10, 100),  # 80 % of the targets carry it all
        (5, 10, 10, 70),
        (5, 10, 1, 70),  # however few the others are
        (1, 10, 10, 14),
        (0, 10, 10, 0),
        (5, 10, 0, 100),  # there is nobody else
    ],
)
def test_own_zone_first_and_the_rest_spills_over(own_usable: int, own_all: int, others: int, percent: int) -> None:
    near, far = zone_factors(own_usable, own_all, others)
    stays, leaves = near * own_usable, far * others
    assert 100 * stays == percent * (stays + leaves)
    assert stays + leaves > 0


def test_a_zone_without_targets_prefers_nobody() -> None:
    assert zone_factors(0, 0, 7) == (1, 1)
