"""Addresses: AWS's documented counts, and a pool that behaves as a plain set of addresses does, whatever is asked."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.control.network import AddressError, AddressesExhausted, AddressPool, next_subnet


@pytest.mark.parametrize(("cidr", "usable"), [("10.0.0.0/28", 11), ("10.0.0.0/24", 251), ("10.0.0.0/16", 65531)])
def test_five_addresses_are_reserved(cidr: str, usable: int) -> None:
    report = AddressPool("a", cidr).report(0)
    assert (report.usable, report.free) == (usable, usable)


def test_sixty_four_callers_in_turn_get_251_addresses_and_then_a_named_refusal() -> None:
    pool = AddressPool("app-subnet-1", "10.0.1.0/24")
    given = [pool.allocate(f"caller-{n % 64}/{n}", 0) for n in range(251)]
    assert len(set(given)) == 251
    assert given[0] == "10.0.1.4"
    assert given[-1] == "10.0.1.254"
    with pytest.raises(AddressesExhausted) as refused:
        pool.allocate("one-more", 0)
    assert str(refused.value) == (
        "app-subnet-1 (10.0.1.0/24) has no free address: 251 of 251 are used; add a subnet, such as another /24"
    )


def test_an_owner_is_given_its_own_address_again() -> None:
    pool = AddressPool("a", "10.0.1.0/24")
    assert pool.allocate("web-1", 0) == pool.allocate("web-1", 1)
    assert pool.report(1).used == 1


def test_a_released_address_rests_before_another_gets_it() -> None:
    pool = AddressPool("a", "10.0.0.0/28", quarantine=120)
    for n in range(11):
        pool.allocate(str(n), 0)
    pool.release("7", 10)
    with pytest.raises(AddressesExhausted, match=r"1 in quarantine \(the first for 20 s more\)"):
        pool.allocate("next", 110)
    with pytest.raises(AddressError, match=r"stays in quarantine for 20 s more"):
        pool.reserve("next", "10.0.0.11", 110)
    assert pool.allocate("next", 130) == "10.0.0.11"


def test_releasing_what_one_never_had_takes_nothing_from_others() -> None:
    pool = AddressPool("a", "10.0.0.0/28")
    pool.allocate("web-1", 0)
    pool.release("web-2", 0)
    pool.release("web-1", 0)
    pool.release("web-1", 0)
    report = pool.report(1000)
    assert (report.used, report.free) == (0, 11)


def test_fragmentation_is_told_with_the_largest_block_that_is_left() -> None:
    pool = AddressPool("pods", "10.0.0.0/24", quarantine=0)
    for n in range(251):
        pool.allocate(str(n), 0)
    for n in range(0, 251, 2):
        pool.release(str(n), 0)
    with pytest.raises(AddressesExhausted) as refused:
        pool.allocate_block("node-1", 28, 1)
    assert refused.value.free == 126
    assert refused.value.largest_free_prefix == 32
    assert "126 are free in 126 pieces, the largest block a /32; add a subnet with room for a /28" in str(refused.value)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("10.0.0.0", "is reserved in a, for the network"),
        ("10.0.0.1", "is reserved in a, for the router"),
        ("10.0.0.2", "is reserved in a, for DNS"),
        ("10.0.0.255", "is reserved in a, for broadcast"),
        ("10.0.0.0/28", "holds reserved addresses of a"),
        ("10.0.1.9", r"is not inside 10\.0\.0\.0/24 of a"),
        ("2001:db8::9", "is of the other family"),
        ("10.0.0.10", "is taken in a: web-1 holds 10.0.0.10"),
        ("ten", "is neither an address nor a CIDR block"),
    ],
)
def test_a_reservation_that_cannot_be_says_why(what: str, words: str) -> None:
    pool = AddressPool("a", "10.0.0.0/24")
    assert pool.reserve("web-1", "10.0.0.10", 0) == "10.0.0.10"
    assert pool.reserve("web-1", "10.0.0.10", 0) == "10.0.0.10"
    with pytest.raises(AddressError, match=words):
        pool.reserve("web-2", what, 0)


def test_an_ipv6_subnet_costs_no_more_than_a_small_one() -> None:
    pool = AddressPool("six", "2001:db8:0:1::/64")
    assert pool.allocate("web-1", 0) == "2001:db8:0:1::4"
    assert pool.allocate_block("node-1", 80, 0) == "2001:db8:0:1:1::/80"
    assert pool.report(0).free == 2**64 - 5 - 1 - 2**48
    assert pool.who("2001:db8:0:1:1::77") == "node-1"


def test_next_subnet_fills_gaps_and_names_what_is_left() -> None:
    taken = ["10.0.0.0/24", "10.0.2.0/23"]
    assert next_subnet(["10.0.0.0/22"], taken, 24) == "10.0.1.0/24"
    assert next_subnet(["10.0.0.0/22", "10.1.0.0/22"], taken, 23) == "10.1.0.0/23"
    assert next_subnet(["10.0.0.0/22", "2001:db8::/56"], ["2001:db8::/64"], 64) == "2001:db8:0:1::/64"
    with pytest.raises(AddressesExhausted) as refused:
        next_subnet(["10.0.0.0/22"], taken, 23)
    assert refused.value.largest_free_prefix == 24


def test_a_hundred_thousand_addresses_touch_no_list_of_addresses() -> None:
    pool = AddressPool("large", "10.0.0.0/15")
    given = {pool.allocate(str(n), 0) for n in range(100_000)}
    assert len(given) == 100_000
    assert pool.report(0).free_runs == 1


class AgainstASet(RuleBasedStateMachine):
    """The naive pool: one entry for each address, looked through from the lowest."""

    OWNERS = st.sampled_from([f"o{n}" for n in range(12)])
    CIDR = "192.0.2.0/27"
    QUARANTINE = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.pool = AddressPool("p", self.CIDR, self.QUARANTINE)
        usable = [int(address) for address in ip_network(self.CIDR)][4:-1]
        self.since = dict.fromkeys(usable, 0.0)  # free from when on
        self.held: dict[str, list[int]] = {}
        self.now = 0.0

    def free(self) -> list[int]:
        taken = {number for numbers in self.held.values() for number in numbers}
        return [number for number, since in self.since.items() if number not in taken and since <= self.now]

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(owner=OWNERS)
    def allocate(self, owner: str) -> None:
        if len(self.held.get(owner, [0])) > 1:
            with pytest.raises(AddressError, match="a block, not one address"):
                self.pool.allocate(owner, self.now)
        elif owner in self.held or self.free():
            expected = self.held.setdefault(owner, self.free()[:1])
            assert int(ip_address(self.pool.allocate(owner, self.now))) == expected[0]
        else:
            with pytest.raises(AddressesExhausted):
                self.pool.allocate(owner, self.now)

    @rule(owner=OWNERS, prefix=st.integers(28, 31))
    def allocate_block(self, owner: str, prefix: int) -> None:
        if owner in self.held:
            return
        size = 1 << (32 - prefix)
        free = set(self.free())
        starts = [n for n in sorted(free) if n % size == 0 and free.issuperset(range(n, n + size))]
        if starts:
            network = ip_network(self.pool.allocate_block(owner, prefix, self.now))
            assert int(network.network_address) == starts[0]
            self.held[owner] = [int(address) for address in network]
        else:
            with pytest.raises(AddressesExhausted) as refused:
                self.pool.allocate_block(owner, prefix, self.now)
            assert refused.value.free == len(free)

    @rule(owner=OWNERS, offset=st.integers(0, 31))
    def reserve(self, owner: str, offset: int) -> None:
        address = ip_network(self.CIDR)[offset]
        if self.held.get(owner) == [int(address)] or (owner not in self.held and int(address) in self.free()):
            assert self.pool.reserve(owner, str(address), self.now) == str(address)
            self.held[owner] = [int(address)]
        else:
            with pytest.raises(AddressError):
                self.pool.reserve(owner, str(address), self.now)

    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        self.pool.release(owner, self.now)
        for number in self.held.pop(owner, []):
            self.since[number] = self.now + self.QUARANTINE

    @invariant()
    def counts_agree(self) -> None:
        report = self.pool.report(self.now)
        free = self.free()
        used = sum(map(len, self.held.values()))
        assert (report.free, report.used) == (len(free), used)
        assert report.quarantined == report.usable - len(free) - used
        assert report.free_runs == sum(number - 1 not in free for number in free)


AgainstASet.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestAgainstASet = AgainstASet.TestCase
