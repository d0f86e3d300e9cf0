"""Hosts and certificates: what is covered, what is another's, and how much is remembered."""

from __future__ import annotations

import pytest

from penstock.proxy.http_fields import BadMessage
from penstock.proxy.server_names import HostGuard, covers

OWN = frozenset((b"a.example.org", b"*.shared.example.org"))
OTHERS = OWN | {b"b.example.org", b"*.b.example.org", b"x.shared.example.org"}


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        (b"a.example.org", True),
        (b"x.shared.example.org", True),
        (b"shared.example.org", False),  # a wildcard stands for one label, not for none
        (b"x.y.shared.example.org", False),  # nor for two
        (b"", False),
        (b"[2001:db8::1]", False),
    ],
)
def test_a_wildcard_stands_for_one_label(host: bytes, covered: bool) -> None:
    assert covers(OWN, host) is covered


@pytest.mark.parametrize("host", [b"b.example.org", b"b.example.org.", b"www.b.example.org"])
def test_what_is_only_on_another_certificate_is_misdirected(host: bytes) -> None:
    guard = HostGuard(OWN, OTHERS)
    with pytest.raises(BadMessage, match="421 misdirected_request"):
        guard.check(host)
    assert not guard.allowed


@pytest.mark.parametrize("host", [b"a.example.org", b"a.example.org.", b"x.shared.example.org", b"", b"192.0.2.1"])
def test_what_is_right_is_remembered(host: bytes) -> None:
    guard = HostGuard(OWN, OTHERS)
    guard.check(host)
    assert guard.allowed == {host}


def test_what_is_remembered_is_bounded() -> None:
    guard = HostGuard(OWN, OTHERS)
    for number in range(3 * HostGuard.MAX_REMEMBERED):
        guard.check(b"%d.example.net" % number)
        assert len(guard.allowed) <= HostGuard.MAX_REMEMBERED
