"""The budget of repetitions and the pause before each."""

from __future__ import annotations

import pytest

from penstock.proxy.retry import RetryBudget, backoff
from penstock.proxy.specs import RetrySpec


@pytest.mark.parametrize(("in_flight", "room"), [(0, 3), (10, 3), (19, 3), (20, 4), (100, 20)])
def test_a_share_of_what_is_in_flight_but_never_less_than_the_minimum(in_flight: int, room: int) -> None:
    budget, spec = RetryBudget(), RetrySpec()
    taken = 0
    while budget.take(spec, in_flight):
        taken += 1
    assert taken == room
    budget.give_back(1)
    assert budget.take(spec, in_flight)
    assert not budget.take(spec, in_flight)


def test_no_budget_is_none() -> None:
    assert not RetryBudget().take(RetrySpec(budget_percent=0, budget_minimum=0), 1000)


def test_the_pause_is_drawn_below_a_bound_that_doubles_up_to_a_limit() -> None:
    spec = RetrySpec()
    assert [backoff(spec, attempt, 1.0) for attempt in range(1, 6)] == [0.05, 0.1, 0.2, 0.25, 0.25]
    assert backoff(spec, 3, 0.0) == 0.0
    assert backoff(spec, 1, 0.5) == 0.025
