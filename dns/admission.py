"""Who may ask for names that are not ours.

An open resolver is found within a day and then attacks others with its answers (RFC 5358), so strangers are refused.
Unless the configuration says otherwise, those are at home whose addresses no stranger on the internet can have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .prefixes import PrefixMap, client_address

# BIND's default is localhost and localnets; which nets are local is not for a pure function to know.
HOME: Final = (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",  # RFC 1122, 1918, 3927
    "100.64.0.0/10",  # RFC 6598: behind a carrier's NAT
    "::1/128", "fc00::/7", "fe80::/10",  # RFC 4291, 4193
)  # fmt: skip
CLIENTS_REMEMBERED: Final = 16384  # addresses; a judgement costs 2 µs, remembering it some 100 octets


class Admission:
    """`may_recurse(client)` for the address of a peer, as the kernel wrote it."""

    __slots__ = ("_allowed", "_known")

    def __init__(self, recursion: Iterable[str] = HOME) -> None:
        """ValueError in words if one of `recursion` is no network such as 10.0.0.0/8."""
        self._allowed = PrefixMap((network, True) for network in recursion)
        self._known: dict[str, bool] = {}

    def may_recurse(self, client: str) -> bool:
        known = self._known.get(client)
        if known is None:
            known = self._allowed.find(client_address(client)) is not None
            if len(self._known) >= CLIENTS_REMEMBERED:
                self._known.clear()
            self._known[client] = known
        return known
