"""Who has registered, who is heard of, what is said of whom; and whom a query finds."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns.answers import Answers
from penstock.dns.discover import EVERYBODY, Query, discover
from penstock.dns.instances import Instance, is_up
from penstock.dns.registrations import LATE, SAID, Full, Heartbeat, Key, Registrations, with_entries
from penstock.dns.specs import DnsSpec, Down, InstanceSpec, NamespaceSpec, ServiceSpec

ONE = InstanceSpec("i-1", "192.0.2.1", 80)
TWO = InstanceSpec("i-2", "192.0.2.2", 80)
LISTED = InstanceSpec("listed", "192.0.2.3", 80, health_key="check of listed")
API = ServiceSpec("api", (("A", 5),), instances=(LISTED,))
SPEC = DnsSpec(namespaces=(NamespaceSpec(("services", "services.example.org"), (API,)),))
K1, K2, KL = (Key.of("services", "api", name) for name in ("i-1", "i-2", "listed"))
TAKERS = {("services", "api"): lambda spec: f"check of {spec.id}"}
TTL = Heartbeat(10.0, 60.0)


def registrations(per_service: int = 10, in_all: int = 10) -> Registrations:
    made = Registrations(per_service, in_all)
    made.takers = TAKERS
    return made


def overdue(made: Registrations, now: float) -> list[tuple[str, bool]]:
    return [(key.id, gone) for key, gone in made.overdue(now)]


class Healthy:
    """Everybody whom somebody asks about."""

    def is_healthy(self, _key: object, /) -> bool:
        return True


class TestHeartbeats:
    def test_silence_ends_in_two_steps(self) -> None:
        made = registrations()
        made.register(K1, ONE, TTL, 100.0)
        assert made.next_due() == 110.0
        assert overdue(made, 109.9) == []
        assert made.told(K1) == replace(ONE, health_key="check of i-1")
        assert overdue(made, 110.0) == [("i-1", False)]
        assert made.told(K1) == replace(ONE, health_key=Down(LATE, *K1))
        assert overdue(made, 169.9) == []
        assert overdue(made, 170.0) == [("i-1", True)]
        assert made.told(K1) is None
        assert made.next_due() is None

    def test_a_heartbeat_puts_it_off_and_says_who_was_late(self) -> None:
        made = registrations()
        made.register(K1, ONE, TTL, 0.0)
        assert not made.beat(K1, 9.0)
        assert overdue(made, 18.9) == []
        assert overdue(made, 19.0) == [("i-1", False)]
        assert made.beat(K1, 20.0)
        assert made.told(K1) == replace(ONE, health_key="check of i-1")
        assert overdue(made, 29.0) == []
        assert overdue(made, 30.0) == [("i-1", False)]

    def test_no_silence_is_missed_however_late_one_looks(self) -> None:
        made = registrations()
        made.register(K1, ONE, TTL, 0.0)
        assert overdue(made, 1000.0) == [("i-1", False), ("i-1", True)]

    def test_to_register_again_counts_as_one_and_may_change_the_ttl(self) -> None:
        made = registrations()
        made.register(K1, ONE, Heartbeat(100.0), 0.0)
        made.register(K1, ONE, Heartbeat(1.0), 0.0)
        assert overdue(made, 1.0) == [("i-1", False)]
        made.register(K1, ONE, None, 2.0)
        assert overdue(made, 1e9) == []
        assert made.next_due() is None

    def test_what_is_scheduled_does_not_grow_with_heartbeats(self) -> None:
        made = registrations()
        for second in range(1000):
            made.register(K1, ONE, TTL, float(second))
            assert overdue(made, float(second)) == []
        assert len(made._due) == 1

    def test_who_deregisters_and_comes_back_is_new(self) -> None:
        made = registrations()
        made.register(K1, ONE, TTL, 0.0)
        made.deregister(K1)
        made.register(K1, ONE, TTL, 9.0)
        assert overdue(made, 18.0) == []
        assert overdue(made, 19.0) == [("i-1", False)]

    @given(st.lists(st.tuples(st.sampled_from(["register", "beat", "leave", "look"]), st.integers(0, 7)), max_size=60))
    def test_nobody_is_late_who_was_heard_of_within_his_ttl(self, steps: list[tuple[str, int]]) -> None:
        made, now, heard = registrations(), 0.0, None
        for what, seconds in steps:
            now += seconds
            if what == "register":
                made.register(K1, ONE, Heartbeat(5.0, 10.0), now)
                heard = now
            elif what == "beat" and K1 in made.all:
                made.beat(K1, now)
                heard = now
            elif what == "leave" and K1 in made.all:
                made.deregister(K1)
            list(made.overdue(now))
            if K1 in made.all:
                assert heard is not None
                assert made.all[K1].late == (now - heard >= 5.0)
                assert now - heard < 15.0


class TestTheOperatorsWord:
    @pytest.mark.parametrize(("word", "key"), [(True, None), (False, Down(SAID, *K1)), (None, "check of i-1")])
    def test_it_goes_before_checks(self, word: bool | None, key: object) -> None:
        made = registrations()
        made.register(K1, ONE, None, 0.0)
        made.say(K1, word)
        assert made.told(K1) == replace(ONE, health_key=key)

    def test_it_goes_before_heartbeats_and_stands_until_it_is_taken_back(self) -> None:
        made = registrations()
        made.register(K1, ONE, TTL, 0.0)
        made.say(K1, True)
        list(made.overdue(10.0))
        assert made.told(K1) == ONE
        made.say(K1, None)
        assert made.told(K1) == replace(ONE, health_key=Down(LATE, *K1))

    def test_of_a_listed_instance(self) -> None:
        made = registrations()
        made.say(KL, False)
        assert made.told(KL, LISTED) == replace(LISTED, health_key=Down(SAID, *KL))
        assert made.entries(SPEC, TAKERS) == {KL: replace(LISTED, health_key=Down(SAID, *KL))}
        assert made.entries(DnsSpec(), {}) == {}

    def test_it_ends_with_the_registration(self) -> None:
        made = registrations()
        made.register(K1, ONE, None, 0.0)
        made.say(K1, False)
        made.deregister(K1)
        assert made.words == {}

    def test_down_is_down_whatever_the_source_of_health_says(self) -> None:
        assert is_up(ONE, Healthy())
        assert is_up(LISTED, Healthy())
        assert not is_up(replace(ONE, health_key=Down(SAID, *K1)), Healthy())


class TestConfigurations:
    def test_entries_stand_beside_what_is_listed(self) -> None:
        made = registrations()
        made.register(K1, ONE, None, 0.0)
        joined = with_entries(SPEC, made.entries(SPEC, TAKERS))
        assert joined.namespaces[0].services[0].instances == (LISTED, replace(ONE, health_key="check of i-1"))
        assert with_entries(SPEC, {}) is SPEC

    def test_what_is_listed_goes_first_and_what_has_no_place_is_dropped(self) -> None:
        made = registrations()
        made.register(K1, ONE, None, 0.0)
        made.register(K2, TWO, None, 0.0)
        now_listed = replace(API, instances=(LISTED, replace(ONE, weight=9)))
        spec = DnsSpec(namespaces=(NamespaceSpec(("services",), (now_listed,)),))
        assert made.entries(spec, TAKERS).keys() == {K2}
        assert made.settle(spec, TAKERS) == [K1]
        assert made.settle(spec, {}) == [K2]
        assert not made.all

    def test_a_check_that_changes_is_another_key(self) -> None:
        made = registrations()
        made.register(K1, ONE, None, 0.0)
        other = {("services", "api"): lambda spec: "another"}
        assert made.entries(SPEC, other)[K1].health_key == "another"


class TestRoom:
    def test_of_a_service(self) -> None:
        made = registrations(per_service=1)
        made.register(K1, ONE, None, 0.0)
        made.check_room(K1)
        with pytest.raises(Full, match="service api has 1 registered instances, there is no room for more"):
            made.check_room(K2)
        made.check_room(Key.of("services", "other", "i-1"))
        made.deregister(K1)
        made.check_room(K2)

    def test_in_all(self) -> None:
        made = registrations(in_all=1)
        made.register(K1, ONE, None, 0.0)
        with pytest.raises(Full, match="1 instances are registered"):
            made.check_room(Key.of("services", "other", "i-1"))


class TestRegistry:
    """What DNS makes of it."""

    def answers(self, before: Answers | None = None, serial: int = 7) -> Answers:
        return Answers(SPEC, lambda spec: is_up(spec, Healthy()), serial, before)

    def test_the_revision_moves_with_instances_and_with_health_and_never_back(self) -> None:
        answers = self.answers()
        service = answers.registry.known("services", "api")
        seen = [service.revision]
        for change in (
            lambda: answers.register("services", "api", ONE),
            lambda: answers.register("services", "api", replace(ONE, weight=2)),
            lambda: answers.register("services", "api", replace(ONE, health_key=Down(SAID, *K1))),
            lambda: answers.register("services", "api", replace(ONE, ip="192.0.2.9")),
            lambda: answers.health_changed(["check of listed"]),
            lambda: answers.deregister("services", "api", "i-1"),
        ):
            change()
            seen.append(service.revision)
        assert seen == sorted(set(seen))
        for serial in (7, 8):  # a reload, and one whose clock stands
            again = self.answers(answers, serial).registry.known("services", "api")
            assert again.revision > seen[-1]
        assert seen[-1] < 2**53

    def test_a_change_of_health_keeps_its_place_and_leaves_nothing_behind(self) -> None:
        answers = self.answers()
        registry = answers.registry
        names = set(registry.names)
        for number in range(3):
            answers.register("services", "api", replace(ONE, id=f"i-{number}", ip=f"192.0.2.{10 + number}"))
        order = list(registry.services["services", "api"].by_id)
        hanging = set(registry._by_health)
        answers.register("services", "api", replace(ONE, id="i-1", ip="192.0.2.11", health_key=Down(SAID, *K1)))
        assert list(registry.services["services", "api"].by_id) == order
        for number in range(3):
            answers.deregister("services", "api", f"i-{number}")
        assert set(registry.names) == names
        assert set(registry._by_health) == hanging


class TestDiscover:
    def instances(self, *healthy: bool) -> list[Instance]:
        """i-0 and so on: even ones are blue and odd ones green; the first two are in zone a."""
        return [
            Instance(
                InstanceSpec(
                    f"i-{n}",
                    f"192.0.2.{n}",
                    80,
                    attributes=(("color", "green" if n % 2 else "blue"),),
                    zone="a" if n < 2 else "b",
                ),
                healthy=is_healthy,
            )
            for n, is_healthy in enumerate(healthy)
        ]

    @pytest.mark.parametrize(
        ("query", "healthy", "found"),
        [
            (EVERYBODY, (True, True, False, True), {0, 1, 3}),
            (EVERYBODY, (False, False), {0, 1}),
            (EVERYBODY, (), set()),
            (Query(health="HEALTHY"), (False, False), set()),
            (Query(health="HEALTHY"), (False, True), {1}),
            (Query(health="UNHEALTHY"), (False, True), {0}),
            (Query(health="ALL"), (False, True), {0, 1}),
            (Query((("color", "blue"),)), (True, True, True, True), {0, 2}),
            (Query((("color", "blue"),)), (False, True, False, True), {0, 2}),  # fails open among those asked for
            (Query((("color", "blue"), ("zone", "b"))), (True, True, True, True), {2}),
            (Query((("color", "red"),)), (True, True), set()),
            (Query((("size", ""),)), (True, True), set()),
            (Query((), (("zone", "a"),)), (True, True, True, True), {0, 1}),
            (Query((), (("zone", "a"), ("color", "blue"))), (True, True, True, True), {0}),
            (Query((), (("zone", "c"),)), (True, True, True, True), {0, 1, 2, 3}),
            (Query((("color", "green"),), (("zone", "c"),)), (True, True, True, True), {1, 3}),
            (Query((), (("zone", "a"),)), (False, False, True, True), {2, 3}),  # no wish makes an unhealthy one better
        ],
    )
    def test_who_is_found(self, query: Query, healthy: tuple[bool, ...], found: set[int]) -> None:
        got = discover(self.instances(*healthy), query, random.Random(1).sample)
        assert {int(each.spec.id[2:]) for each in got} == found

    def test_at_most_so_many_and_each_is_first_at_times(self) -> None:
        instances, rng = self.instances(*[True] * 4), random.Random(1)
        first = [discover(instances, Query(max_results=2), rng.sample) for _ in range(100)]
        assert {len(each) for each in first} == {2}
        assert {each[0].spec.id for each in first} == {"i-0", "i-1", "i-2", "i-3"}
