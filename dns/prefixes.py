"""What is said of the longest prefix that an address lies in: which network a client is in, and where.

One table per length of prefix, asked from the longest to the shortest: a look-up costs as many dict accesses as there
are different lengths, however many prefixes. Both families live side by side and never meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Generic, TypeVar

T = TypeVar("T")
Address = IPv4Address | IPv6Address


class PrefixMap(Generic[T]):
    """Of two entries with the same prefix the first one holds."""

    __slots__ = ("_families",)

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        """ValueError in words if a prefix is none."""
        tables: dict[int, dict[int, dict[int, T]]] = {4: {}, 6: {}}
        for text, value in entries:
            network = ip_network(text)
            shift = network.max_prefixlen - network.prefixlen
            tables[network.version].setdefault(shift, {}).setdefault(int(network.network_address) >> shift, value)
        self._families = {version: sorted(table.items()) for version, table in tables.items()}

    def find(self, address: Address) -> T | None:
        number = int(address)
        for shift, table in self._families[address.version]:
            found = table.get(number >> shift)
            if found is not None:
                return found
        return None


def client_address(text: str) -> Address:
    """A peer's address as the kernel wrote it: an IPv6 one without its zone, an IPv4 one in IPv6 as what it is."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
