"""One contract over all algorithms, then what is particular to each. Chance is seeded, or a list."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

import pytest

from penstock.proxy.balancing import Balancer, balancer, eligible
from penstock.proxy.balancing import smooth_weighted as smooth_weighted_module
from penstock.proxy.balancing.ewma import MEMORY, faded, observed
from penstock.proxy.balancing.maglev import SIZES, Maglev, table_size
from penstock.proxy.specs import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)


@dataclass(slots=True, eq=False)
class Server:
    name: str
    weight: int = 1
    in_flight: int = 0
    latency: float = 0.0

    @property
    def key(self) -> str:
        return self.name


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
        monkeypatch.setattr(smooth_weighted_module, "LONGEST_REMEMBERED", 0)
    weights = [5, 3, 1]
    for seed in range(20):
        sequence = names(balancer("round_robin", servers(weights), random.Random(seed)), 90)
        for start in range(27):
            for length in range(1, 40):
                stretch = Counter(sequence[start : start + length])
                for name, weight in zip("abc", weights, strict=True):
                    assert abs(stretch[name] - length * weight / 9) < 2


def test_round_robin_shares_hold_when_the_sequence_is_too_long_to_remember(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smooth_weighted_module, "LONGEST_REMEMBERED", 1000)
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


def serve(chosen: Balancer[Server], duration: Callable[[Server], int], rate: int, turns: int) -> Counter[str]:
    """`rate` requests a turn, each at its server for as many turns as `duration` says; who got how many."""
    picked: Counter[str] = Counter()
    leaving: list[list[Server]] = [[] for _ in range(turns + 100)]
    for now in range(turns):
        for server in leaving[now]:
            server.in_flight -= 1
        for _ in range(rate):
            server = chosen.pick()
            assert server is not None
            server.in_flight += 1
            picked[server.name] += 1
            leaving[now + duration(server)].append(server)
    return picked


def test_two_choices_come_near_the_least_loaded() -> None:
    """As many requests as servers, none of which ends: the fullest has about log log n more than the average."""
    fullest = {}
    for algorithm in ("weighted_random", "power_of_two_choices", "least_outstanding_requests"):
        group = [Server(str(index)) for index in range(1000)]
        chosen = balancer(algorithm, group, random.Random(10))
        for _ in range(10_000):
            server = chosen.pick()
            assert server is not None
            server.in_flight += 1
        fullest[algorithm] = max(server.in_flight for server in group)
    assert fullest["least_outstanding_requests"] == 10
    assert fullest["power_of_two_choices"] <= 13
    assert fullest["weighted_random"] >= 18


def test_two_choices_fill_by_weight() -> None:
    group = servers([3, 2, 1])
    chosen = balancer("power_of_two_choices", group, random.Random(11))
    for _ in range(6000):
        server = chosen.pick()
        assert server is not None
        server.in_flight += 1
    assert [server.in_flight for server in group] == pytest.approx([3000, 2000, 1000], rel=0.05)


@pytest.mark.parametrize("algorithm", ["least_outstanding_requests", "power_of_two_choices"])
def test_a_slow_server_gets_less_from_those_who_count(algorithm: Algorithm) -> None:
    picked = serve(
        balancer(algorithm, servers([1, 1, 1]), random.Random(12)), lambda s: 10 if s.name == "a" else 1, 3, 300
    )
    assert picked["a"] < 150 < 300 <= min(picked["b"], picked["c"])


def test_ewma_avoids_the_slow_one() -> None:
    group = servers([1, 1, 1])
    for server, latency in zip(group, (0.200, 0.010, 0.010), strict=True):
        server.latency = latency
    picked = Counter(names(balancer("ewma", group, random.Random(13)), 1000))
    assert picked["a"] == 0  # of two idle ones there is always a faster
    assert picked["b"] + picked["c"] == 1000
    group[1].in_flight = group[2].in_flight = 40  # the queue before the fast ones has grown too long
    assert Counter(names(balancer("ewma", group, random.Random(13)), 1000))["a"] > 600


def test_ewma_does_not_send_everything_to_one_it_knows_nothing_of() -> None:
    group = servers([1, 1])
    group[0].latency = 0.010
    chosen = balancer("ewma", group, random.Random(14))
    first = chosen.pick()
    while first is group[0]:
        first = chosen.pick()
    group[1].in_flight = 1  # asked, and has not answered yet
    assert names(chosen, 100) == "a" * 100


def test_an_average_rises_at_once_and_falls_over_time() -> None:
    assert observed(0.0, 0.010, 0.0) == 0.010
    assert observed(0.010, 0.500, 0.0) == 0.500  # a peak counts
    assert observed(0.500, 0.010, 0.0) == 0.500  # a fast answer in the same moment forgives nothing
    assert observed(0.500, 0.010, MEMORY) == pytest.approx(0.010 + 0.490 / 2.71828, rel=1e-4)
    assert observed(0.500, 0.010, 100 * MEMORY) == pytest.approx(0.010)
    assert faded(0.500, MEMORY) == pytest.approx(0.500 / 2.71828, rel=1e-4)
    many = few = 0.500
    for _ in range(1000):
        many = observed(many, 0.010, 0.005)
    for _ in range(50):
        few = observed(few, 0.010, 0.100)
    assert many == pytest.approx(few)  # what counts is the time that passed, not how often it was looked


KEYS = [b"user-%d" % number for number in range(5000)]


def owners(weights: dict[str, int], size: int = 5003) -> dict[bytes, str]:
    table = Maglev([Server(name, weight) for name, weight in weights.items()], random.Random(15), size=size)
    chosen = {key: table.pick_for(key) for key in KEYS}
    return {key: server.name for key, server in chosen.items() if server is not None}


def test_maglev_sends_a_key_the_same_way_whoever_asks_and_however_the_file_is_sorted() -> None:
    group = {f"192.0.2.{number}:80": 1 for number in range(10)}
    assert owners(group) == owners(dict(reversed(group.items())))
    # Known for good: another hash in the next release would move every client there is.
    known = ["192.0.2.7:80", "192.0.2.1:80", "192.0.2.4:80", "192.0.2.4:80"]
    assert [owners(group)[key] for key in KEYS[:4]] == known


@pytest.mark.parametrize("count", [2, 5, 10, 50])
def test_maglev_without_one_moves_that_ones_keys_and_few_others(count: int) -> None:
    group = {f"192.0.2.{number}:80": 1 for number in range(count)}
    before = owners(group)
    gone = "192.0.2.1:80"
    after = owners({name: weight for name, weight in group.items() if name != gone})
    theirs = sum(owner == gone for owner in before.values())
    moved = sum(before[key] != after[key] for key in KEYS)
    assert theirs == pytest.approx(len(KEYS) / count, rel=0.25)
    assert theirs <= moved <= theirs + 0.06 * len(KEYS)  # Maglev trades a few needless moves for even shares


@pytest.mark.parametrize("ill", [1, 3, 9])
def test_maglev_moves_the_keys_of_the_ill_alone_and_gives_them_back(ill: int) -> None:
    group = [Server(f"192.0.2.{number}:80", number % 3 + 1) for number in range(10)]
    members = {server.key: server.weight for server in group}
    before = {key: Maglev(group, random.Random(18), members).pick_for(key) for key in KEYS}
    well = group[ill:]
    chosen = Maglev(well, random.Random(18), members)
    assert chosen._table is Maglev(group, random.Random(18), members)._table, "a flip builds no table"
    after = {key: chosen.pick_for(key) for key in KEYS}
    assert all(after[key] is server for key, server in before.items() if server in well)
    shares = Counter(server.key for server in after.values() if server is not None)
    total = sum(server.weight for server in well)
    for server in well:
        assert shares[server.key] == pytest.approx(len(KEYS) * server.weight / total, rel=0.2)


def test_maglev_gives_who_warms_up_a_part_of_its_own_keys() -> None:
    group = servers([1, 1, 1])
    members = {server.key: 1 for server in group}
    cold: set[bytes] = set()
    theirs = {key for key in KEYS if owner(group, members, key) == "a"}
    for percent in (1, 25, 50, 100):
        group[0].weight, group[1].weight, group[2].weight = percent, 100, 100
        warm = {key for key in KEYS if owner(group, members, key) == "a"}
        assert cold <= warm <= theirs
        assert len(warm) == pytest.approx(len(KEYS) * percent / (percent + 200), rel=0.15, abs=15)
        cold = warm
    assert cold == theirs


def owner(group: list[Server], members: dict[str, int], key: bytes) -> str:
    server = Maglev(group, random.Random(19), members).pick_for(key)
    assert server is not None
    return server.name


def test_maglev_of_nobody_but_standbys_and_of_nobody_that_may_be_used() -> None:
    group = [Server("a"), Server("b", 0), Server("c", 0)]
    members = {server.key: server.weight for server in group}
    standbys = Maglev(group[1:], random.Random(20), members)
    assert {server.name for key in KEYS[:50] if (server := standbys.pick_for(key))} == {"b", "c"}
    assert Maglev([], random.Random(20), members).pick_for(b"x") is None


@pytest.mark.parametrize("weights", [[1, 1, 1], [3, 2, 1], [10, 1], [999, 998, 1]])
def test_maglev_shares_its_places_by_weight(weights: list[int]) -> None:
    group = servers(weights)
    table = Maglev(group, random.Random(16), size=20011)
    places = Counter(table._table)
    for index, weight in enumerate(weights):
        assert places[index] == pytest.approx(20011 * weight / sum(weights), abs=2)


def test_maglev_sizes_are_primes() -> None:
    for size in SIZES:
        assert all(size % divisor for divisor in range(2, int(size**0.5) + 1))
    assert [table_size(count) for count in (0, 10, 11, 50, 200, 201)] == [1009, 1009, 5003, 5003, 20011, 20011]


def test_maglev_without_candidates() -> None:
    assert Maglev([], random.Random(17)).pick_for(b"x") is None


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


@pytest.mark.parametrize(
    ("weights", "health", "minimum", "expected"),
    [
        ("1111", "++--", 50, "ab"),  # 50 of 100 is enough for 50
        ("1111", "+---", 50, "abcd"),
        ("1110", "+--+", 50, "abcd"),  # the standby is left out by its weight while others have one
        ("1111", "++++", 100, "abcd"),
        ("1111", "+++-", 100, "abcd"),
        ("1110", "---+", 50, "d"),  # a standby that works is better than three that do not
    ],
)
def test_too_few_are_healthy(weights: str, health: str, minimum: int, expected: str) -> None:
    group = servers(map(int, weights))
    state = {server: mark == "+" for server, mark in zip(group, health, strict=True)}
    chosen = eligible(group, state.__getitem__, minimum_healthy=minimum)
    assert "".join(server.name for server in chosen) == expected


def test_a_group_that_does_not_fail_open_has_nobody() -> None:
    group = servers([1, 1, 0])
    assert eligible(group, lambda _: False, fail_open=False) == []
    assert eligible(group, lambda server: server.name == "c", fail_open=False) == [group[2]]
    assert eligible(group, lambda server: server.name == "a", fail_open=False, minimum_healthy=90) == [group[0]]
