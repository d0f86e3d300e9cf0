"""Who may recurse, and the longest prefix that says so."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.dns import admission
from penstock.dns.admission import Admission
from penstock.dns.prefixes import PrefixMap


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.0.9", True),
        ("100.64.0.1", True),
        ("203.0.113.9", False),
        ("::1", True),
        ("fd00::9", True),
        ("fe80::1%eth0", True),
        ("2001:db8::9", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:203.0.113.9", False),
    ],
)
def test_strangers_may_not_recurse_unless_told(client: str, allowed: bool) -> None:
    judge = Admission()
    assert [judge.may_recurse(client), judge.may_recurse(client)] == [allowed, allowed]


def test_networks_may_be_named_and_nobody_is_a_choice() -> None:
    judge = Admission(("203.0.113.0/24", "2001:db8::/32"))
    assert judge.may_recurse("203.0.113.9")
    assert judge.may_recurse("2001:db8::9")
    assert not judge.may_recurse("127.0.0.1")
    assert not Admission(()).may_recurse("127.0.0.1")


def test_clients_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "CLIENTS_REMEMBERED", 2)
    judge = Admission()
    for last in range(9):
        assert judge.may_recurse(f"10.0.0.{last}")
    assert not judge.may_recurse("203.0.113.9")


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), max_size=30),
    st.integers(0, 2**32 - 1),
)
def test_the_longest_prefix_holds(entries: list[tuple[int, int]], number: int) -> None:
    networks = [ip_network((address, length), strict=False) for address, length in entries]
    found = PrefixMap((str(network), network) for network in networks).find(ip_address(number))
    fitting = [network for network in networks if ip_address(number) in network]
    assert found == max(fitting, key=lambda network: network.prefixlen, default=None)
