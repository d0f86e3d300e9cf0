"""One contract over all algorithms, then what is particular to each. Chance is seeded, or a list."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import pytest

from penstock.proxy.balancing import Balancer, balancer, eligible
from penstock.proxy.balancing import round_robin as round_robin_module
from penstock.proxy.specs import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


@dataclass(slots=True, eq=False)
class Server:
    name: str
    weight: int = 1
    in_flight: int = 0


class Sweep:
    """Instead of chance: the middles of `count` equal pieces of [0, 1) in order, so that shares come out exactly."""

    def __init__(self, count: int) -> None:
        self._next = 0
        self._count = count

    def random(self) -> float:
        self._next += 1
        return ((self._next - 0.5) / self._count) % 1


def servers(weights: Iterable[int]) -> list[Server]:
    return [Server("abcdefghijklmnopqrstuvwxyz"[index], weight) for index, weight in enumerate(weights)]


def names(chosen: Balancer[Server], count: int) -> str:
    return "".join(server.name for _ in range(count) if (server := chosen.pick()))


WEIGHTS = [
    pytest.param([1], [1], id="one"),
    pytest.param([1, 1, 1], [1, 1, 1], id="equal"),
    pytest.param([7, 7], [1, 1], id="equal, not 1"),
    pytest.param([3, 1], [3, 1], id="3:1"),
    pytest.param([100, 200, 100], [1, 2, 1], id="common divisor"),
    pytest.param([5, 1, 1], [5, 1, 1], id="5:1:1"),
    pytest.param([999, 1], [999, 1], id="extremes"),
    pytest.param([2, 0, 1], [2, 0, 1], id="weight 0 takes no part"),
    pytest.param([0, 0], [1, 1], id="all 0 are equal"),
    pytest.param([13, 8, 5, 3, 2, 1], [13, 8, 5, 3, 2, 1], id="many"),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("weights", "shares"), WEIGHTS)
def test_idle_candidates_get_their_share_exactly(algorithm: Algorithm, weights: list[int], shares: list[int]) -> None:
    group = servers(weights)
    rounds = sum(shares) * len(shares)  # a multiple of all periods, and of all boundaries of the alias table
    chosen = balancer(algorithm, group, Sweep(rounds))
    for _ in range(3):
        picked = Counter(names(chosen, rounds))
        assert picked == Counter(
            {server.name: share * len(shares) for server, share in zip(group, shares, strict=True) if share}
        )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_candidates_no_pick(algorithm: Algorithm) -> None:
    chosen = balancer(algorithm, servers([]), random.Random(1))
    assert [chosen.pick(), chosen.pick()] == [None, None]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_candidates_are_handed_back_themselves_whatever_they_are_doing(algorithm: Algorithm) -> None:
    rng = random.Random(2)
    group = servers([1, 2, 3])
    chosen = balancer(algorithm, group, rng)
    for _ in range(200):
        server = chosen.pick()
        assert any(server is one for one in group)
        assert server is not None
        server.in_flight = rng.randrange(5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rebuilding_over_and_over_starves_nobody(algorithm: Algorithm) -> None:
    """A target that flaps has the balancer rebuilt every few requests; the shares must survive that."""
    rng = random.Random(3)
    group = servers([3, 1])
    picked: Counter[str] = Counter()
    for _ in range(2000):
        picked.update(names(balancer(algorithm, group, rng), 3))
    assert picked["b"] / picked.total() == pytest.approx(1 / 4, abs=0.03)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_weights_are_a_new_balancer(algorithm: Algorithm) -> None:
    group = servers([1, 1])
    before = balancer(algorithm, group, Sweep(8))
    group[0].weight = 3
    after = balancer(algorithm, group, Sweep(8))
    assert Counter(names(before, 8)) == {"a": 4, "b": 4}
    assert Counter(names(after, 8)) == {"a": 6, "b": 2}


def test_round_robin_rotates_from_a_random_start() -> None:
    sequences = {names(balancer("round_robin", servers([1, 1, 1]), random.Random(seed)), 6) for seed in range(40)}
    assert sequences == {"abcabc", "bcabca", "cabcab"}


@pytest.mark.parametrize("remembered", [True, False])
def test_round_robin_is_spread_out(remembered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any stretch a candidate is at most two picks from its share: no runs, whether remembered or worked out."""
    if not remembered:
        monkeypatch.setattr(round_robin_module, "LONGEST_REMEMBERED", 0)
    weights = [5, 3, 1]
    for seed in range(20):
        sequence = names(balancer("round_robin", servers(weights), random.Random(seed)), 90)
        for start in range(27):
            for length in range(1, 40):
                stretch = Counter(sequence[start : start + length])
                for name, weight in zip("abc", weights, strict=True):
                    assert abs(stretch[name] - length * weight / 9) < 2


def test_round_robin_shares_hold_when_the_sequence_is_too_long_to_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_robin_module, "LONGEST_REMEMBERED", 1000)
    group = servers([999, 998, 997] * 6 + [1])
    chosen = balancer("round_robin", group, random.Random(4))
    period = sum(server.weight for server in group)
    for _ in range(4):
        picked = Counter(names(chosen, period))
        assert all(abs(picked[server.name] - server.weight) <= 1 for server in group)


def test_least_outstanding_takes_the_least_loaded_for_its_weight() -> None:
    group = servers([1, 2, 4])
    for loads, expected in [((3, 3, 3), "c"), ((1, 3, 8), "a"), ((2, 1, 4), "b"), ((5, 5, 0), "c"), ((0, 1, 1), "a")]:
        for server, load in zip(group, loads, strict=True):
            server.in_flight = load
        chosen = balancer("least_outstanding_requests", group, random.Random(5))
        assert names(chosen, 20) == expected * 20


def test_least_outstanding_ties_go_round() -> None:
    group = servers([1, 1, 1, 1])
    group[1].in_flight = 9
    for busy in (0, 1, 2):
        for server in (group[0], group[2], group[3]):
            server.in_flight = busy
        picked = Counter(names(balancer("least_outstanding_requests", group, random.Random(6)), 400))
        assert set(picked) == set("acd")
        assert min(picked.values()) >= 100


def test_least_outstanding_fills_by_weight() -> None:
    """Requests that never end: what is in flight stays within one of each share."""
    group = servers([3, 2, 1])
    chosen = balancer("least_outstanding_requests", group, random.Random(7))
    for count in range(1, 121):
        server = chosen.pick()
        assert server is not None
        server.in_flight += 1
        for one in group:
            assert abs(one.in_flight - count * one.weight / 6) <= 1.5


def test_weighted_random_does_not_follow_a_pattern() -> None:
    chosen = balancer("weighted_random", servers([3, 1]), random.Random(8))
    sequence = names(chosen, 10_000)
    assert sequence.count("b") / 10_000 == pytest.approx(1 / 4, abs=0.02)
    assert sequence.count("bb") > 300  # 1 in 16, were it not for overlaps


ELIGIBLE: Sequence[tuple[str, str, str]] = [
    # weights and health of a, b, c; who is eligible
    ("111", "+++", "abc"),
    ("111", "+-+", "ac"),
    ("110", "+++", "ab"),  # a standby stands by
    ("110", "-++", "b"),
    ("110", "--+", "c"),  # until nobody else is healthy
    ("100", "-+-", "b"),
    ("111", "---", "abc"),  # fail open
    ("110", "---", "abc"),
    ("000", "+-+", "ac"),
    ("000", "---", "abc"),
    ("", "", ""),
]


@pytest.mark.parametrize(("weights", "health", "expected"), ELIGIBLE)
def test_who_is_eligible(weights: str, health: str, expected: str) -> None:
    group = servers(map(int, weights))
    state = {server: mark == "+" for server, mark in zip(group, health, strict=True)}
    is_healthy: Callable[[Server], bool] = state.__getitem__
    assert "".join(server.name for server in eligible(group, is_healthy)) == expected


def test_failing_open_leaves_standbys_alone_unless_there_is_nobody_else() -> None:
    group = servers([1, 1, 0])
    chosen = balancer("round_robin", eligible(group, lambda _: False), random.Random(9))
    assert Counter(names(chosen, 10)) == {"a": 5, "b": 5}
