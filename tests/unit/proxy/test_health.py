"""Thresholds, the first state, and what a reload keeps: the table as a plain object, time given by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.proxy.health import FAILED, INITIAL, MISMATCH, TIMEOUT, CheckKey, HealthTable, TargetHealth
from penstock.proxy.specs import HealthCheckSpec

CHECK = HealthCheckSpec(healthy_threshold=3, unhealthy_threshold=2)
KEY = CheckKey("192.0.2.1", 8080, CHECK)
OTHER = CheckKey("192.0.2.2", 8080, CHECK)


def tracking(*keys: CheckKey, now: float = 0.0) -> HealthTable:
    table = HealthTable()
    table.track(keys, now)
    return table


def observe(table: HealthTable, results: str, key: CheckKey = KEY) -> str:
    """Report `+` and `-` one after the other; gives the state's first letter after each, upper case if it flipped."""
    letters = []
    for now, result in enumerate(results, start=1):
        flipped = table.observe(key, result == "+", "" if result == "+" else FAILED, "", float(now))
        letter = table.view[key].state[0]
        letters.append(letter.upper() if flipped else letter)
    return "".join(letters)


@pytest.mark.parametrize(
    ("results", "states"),
    [
        pytest.param("+", "H", id="one pass makes a new target healthy"),
        pytest.param("--", "iU", id="a new target fails as slowly as any other"),
        pytest.param("-+", "iH", id="one failure does not spoil the first pass"),
        pytest.param("+--", "HhU", id="unhealthy after its threshold"),
        pytest.param("+-+-+--", "HhhhhhU", id="a pass resets the failures"),
        pytest.param("--+++", "iUuuH", id="healthy again after its threshold"),
        pytest.param("--++-+++", "iUuuuuuH", id="a failure resets the passes"),
        pytest.param("+--+++--", "HhUuuHhU", id="and round again"),
    ],
)
def test_consecutive_results_flip_the_state(results: str, states: str) -> None:
    assert observe(tracking(KEY), results) == states


def test_thresholds_of_one() -> None:
    key = CheckKey("192.0.2.1", 80, HealthCheckSpec(healthy_threshold=1, unhealthy_threshold=1))
    assert observe(tracking(key), "-+-+", key) == "UHUH"


def test_only_healthy_is_healthy() -> None:
    table = tracking(KEY)
    assert not table.is_healthy(KEY)  # initial
    assert not table.is_healthy(OTHER)  # never heard of
    assert not table.is_healthy("a name")  # not even a key
    observe(table, "+")
    assert table.is_healthy(KEY)
    observe(table, "--")
    assert not table.is_healthy(KEY)


def test_a_record_says_why_and_since_when() -> None:
    table = tracking(KEY, now=5.0)
    assert table.view[KEY] == TargetHealth("initial", INITIAL, "Initial health checks in progress.", 5.0)
    table.observe(KEY, True, "", "", 6.0)
    assert table.view[KEY] == TargetHealth("healthy", "", "", 6.0)
    table.observe(KEY, False, MISMATCH, "Health checks failed with these codes: [503]", 7.0)
    assert table.view[KEY] == TargetHealth("healthy", "", "", 6.0, consecutive=1)
    table.observe(KEY, False, MISMATCH, "Health checks failed with these codes: [500]", 8.0)
    assert table.view[KEY] == TargetHealth("unhealthy", MISMATCH, "Health checks failed with these codes: [500]", 8.0)
    table.observe(
        KEY, False, TIMEOUT, "Request timed out.", 9.0
    )  # the reason is the latest, the flip stays where it was
    assert table.view[KEY] == TargetHealth("unhealthy", TIMEOUT, "Request timed out.", 8.0)


def test_changing_is_what_has_not_settled() -> None:
    table = tracking(KEY)
    changing = []
    for result in "+-+--+-":
        changing.append(table.view[KEY].changing)
        observe(table, result)
    assert changing == [True, False, True, False, True, False, True]


def test_a_view_never_changes_and_is_replaced_only_when_something_did() -> None:
    table = tracking(KEY)
    before = table.view
    observe(table, "+")
    healthy = table.view
    assert before[KEY].state == "initial"
    assert healthy[KEY].state == "healthy"
    observe(table, "+++")
    assert table.view is healthy
    with pytest.raises(TypeError):
        healthy[KEY] = before[KEY]  # pyright: ignore[reportIndexIssue]


def test_keys_that_stay_keep_their_record_and_keys_that_leave_are_forgotten() -> None:
    table = tracking(KEY, OTHER)
    observe(table, "+-")
    record = table.view[KEY]
    table.retain([KEY])
    table.track([KEY], 99.0)
    assert table.view == {KEY: record}
    assert table.observe(OTHER, True, "", "", 99.0) is False  # its probe was under way when it left
    assert table.view == {KEY: record}
    table.track([OTHER], 100.0)
    assert table.view[OTHER].state == "initial"


def test_subscribers_hear_of_flips_when_the_view_has_them() -> None:
    table = tracking(KEY, OTHER)
    heard: list[tuple[frozenset[CheckKey], str]] = []

    def listen(changed: frozenset[CheckKey]) -> None:
        heard.append((changed, table.view[KEY].state))

    table.subscribe(listen)
    observe(table, "++---")
    assert heard == [(frozenset([KEY]), "healthy"), (frozenset([KEY]), "unhealthy")]
    table.unsubscribe(listen)
    observe(table, "+++")
    assert len(heard) == 2


def test_a_subscriber_may_leave_while_it_is_told() -> None:
    table = tracking(KEY)
    heard: list[str] = []

    def once(_: frozenset[CheckKey]) -> None:
        heard.append("once")
        table.unsubscribe(once)

    table.subscribe(once)
    table.subscribe(lambda _: heard.append("always"))
    observe(table, "+--")
    assert heard == ["once", "always", "always"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(
            CheckKey.of("192.0.2.1", 80, CHECK), CheckKey("192.0.2.1", 80, CHECK), True, id="the target's port"
        ),
        pytest.param(
            CheckKey.of("192.0.2.1", 80, replace(CHECK, port=80)),
            CheckKey.of("192.0.2.1", 80, CHECK),
            True,
            id="the target's port spelled out",
        ),
        pytest.param(
            CheckKey.of("192.0.2.1", 80, replace(CHECK, port=9000)),
            CheckKey.of("192.0.2.1", 443, replace(CHECK, port=9000)),
            True,
            id="two targets whose checks meet at one port",
        ),
        pytest.param(
            CheckKey.of("192.0.2.1", 80, replace(CHECK, port=9000)), CheckKey("192.0.2.1", 80, CHECK), False, id="port"
        ),
        pytest.param(
            CheckKey("192.0.2.1", 80, replace(CHECK, path="/a")), CheckKey("192.0.2.1", 80, CHECK), False, id="check"
        ),
    ],
)
def test_what_is_one_probe(one: CheckKey, other: CheckKey, same: bool) -> None:
    assert (one == other) is same
    assert len({one, other}) == (1 if same else 2)
