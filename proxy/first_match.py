"""Which of many (networks, port range) rules is the first to hold an address and a port.

Rules are compiled once, so that a look-up costs a bisection and a short walk, however many there are. Addresses are
integers here: IPv4 as it is, IPv6 shifted above it, so that one sorted list serves both and neither matches the other.

The shape: CIDR blocks nest or are apart, never anything between, so the distinct blocks cut the address space into
intervals, each owned by its innermost block, and each block knows the block around it. A block keeps the ports of its
own rules cut the same way. Memory is linear in the rules whatever they are; a table of (port class, address) would be
quadratic for overlapping ranges, and the source port of a client could make it grow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from ipaddress import IPv4Address, ip_address, ip_network

PORTS = 65536
_IPV6 = 1 << 128  # added to every IPv6 address

# "0" to "255" and nothing else, already shifted: a look-up is both the strict check and the conversion.
_OCTET_1, _OCTET_2, _OCTET_3, _OCTET_4 = ({str(n): n << shift for n in range(256)} for shift in (24, 16, 8, 0))


def parse_address(text: str) -> int:
    """The address as a number; `::ffff:192.0.2.1` (a dual-stack socket's IPv4 client) is 192.0.2.1."""
    try:
        a, b, c, d = text.split(".")
        return _OCTET_1[a] | _OCTET_2[b] | _OCTET_3[c] | _OCTET_4[d]
    except (KeyError, ValueError):
        pass  # not dotted IPv4: the slow and thorough way, which also words the error
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return int(address)
    mapped = address.ipv4_mapped
    return _IPV6 + int(address) if mapped is None else int(mapped)


def parse_network(cidr: str) -> tuple[int, int]:
    """First and last address. Host bits are cleared, as AWS does: 100.68.0.18/18 is 100.68.0.0/18."""
    network = ip_network(cidr, strict=False)
    first = parse_address(str(network.network_address))
    return first, first + network.num_addresses - 1


@dataclass(frozen=True, slots=True)
class Match:
    """One rule: networks as (first, last) address, ports as (first, last) port."""

    networks: tuple[tuple[int, int], ...]
    ports: tuple[int, int]


class _Ports:
    """The port axis cut where the first rule changes: `starts[i]` to `starts[i + 1] - 1` belong to rule `first[i]`."""

    __slots__ = ("first", "starts")

    def __init__(self, ranges: Iterable[tuple[int, int, int]], nobody: int) -> None:
        by_low = sorted(ranges)
        cuts = sorted({0, *(low for low, _, _ in by_low), *(high + 1 for _, high, _ in by_low if high < PORTS - 1)})
        self.starts: list[int] = []
        self.first: list[int] = []
        open_rules: list[tuple[int, int]] = []  # a heap of (rule, last port)
        coming = 0
        for cut in cuts:
            while coming < len(by_low) and by_low[coming][0] <= cut:
                _, high, rule = by_low[coming]
                heappush(open_rules, (rule, high))
                coming += 1
            while open_rules and open_rules[0][1] < cut:
                heappop(open_rules)
            rule = open_rules[0][0] if open_rules else nobody
            if not self.first or self.first[-1] != rule:
                self.starts.append(cut)
                self.first.append(rule)
        self.starts.append(PORTS)

    def around(self, port: int) -> tuple[int, ...]:
        """The rules of the intervals beside the one that holds `port`, the nearer first."""
        at = bisect_right(self.starts, port) - 1
        below = (port - self.starts[at], self.first[at - 1]) if at > 0 else None
        above = (self.starts[at + 1] - port, self.first[at + 1]) if at + 1 < len(self.first) else None
        return tuple(rule for _, rule in sorted(side for side in (below, above) if side is not None))


class _Block:
    """A CIDR block that some rule names. `least`: the first rule that this block or one around it could give."""

    __slots__ = ("around", "least", "ports")

    def __init__(self, ports: _Ports, least: int, around: _Block | None) -> None:
        self.ports = ports
        self.around = around
        self.least = least if around is None else min(least, around.least)


class FirstMatch:
    """`find` gives the index of the first rule that holds, or `nobody`, which is one past the last rule."""

    __slots__ = ("_any_address", "_blocks", "_starts", "nobody")

    def __init__(self, rules: Sequence[Match]) -> None:
        self.nobody = len(rules)
        named: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for index, rule in enumerate(rules):
            low, high = rule.ports
            for network in rule.networks:
                named.setdefault(network, []).append((low, high, index))
        self._starts: list[int] = [0]
        self._blocks: list[_Block | None] = [None]
        inside: list[tuple[int, _Block]] = []  # (last address, block), the innermost last
        for first, last in sorted(named, key=lambda network: (network[0], -network[1])):
            while inside and inside[-1][0] < first:
                self._leave(inside)
            ranges = named[first, last]
            around = inside[-1][1] if inside else None
            block = _Block(_Ports(ranges, self.nobody), min(index for _, _, index in ranges), around)
            inside.append((last, block))
            self._begin(first, block)
        while inside:
            self._leave(inside)
        self._any_address = _Ports(
            ((*rule.ports, index) for index, rule in enumerate(rules) if rule.networks), self.nobody
        )

    def _begin(self, address: int, block: _Block | None) -> None:
        # Several blocks may begin, or end, at one address: the last one said here counts, and bisect_right finds it.
        self._starts.append(address)
        self._blocks.append(block)

    def _leave(self, inside: list[tuple[int, _Block]]) -> None:
        last, _ = inside.pop()
        self._begin(last + 1, inside[-1][1] if inside else None)

    def find(self, address: int, port: int) -> tuple[int, int, int]:
        """(rule, first port, last port): for this address every port of that range has the same answer."""
        rule, low, high = self.nobody, 0, PORTS
        block = self._blocks[bisect_right(self._starts, address) - 1]
        while block is not None and block.least < rule:
            ports = block.ports
            starts = ports.starts
            at = bisect_right(starts, port)
            if starts[at] < high:
                high = starts[at]
            at -= 1
            if starts[at] > low:
                low = starts[at]
            if ports.first[at] < rule:
                rule = ports.first[at]
            block = block.around
        return rule, low, high - 1

    def near_ports(self, address: int, port: int) -> list[int]:
        """Rules that hold the address and miss the port by little; asked when `find` gave nobody."""
        near: list[int] = []
        block = self._blocks[bisect_right(self._starts, address) - 1]
        while block is not None:
            near += [rule for rule in block.ports.around(port) if rule != self.nobody]
            block = block.around
        return near

    def for_any_address(self, port: int) -> int:
        """The first rule that holds the port, whatever the address."""
        ports = self._any_address
        return ports.first[bisect_right(ports.starts, port) - 1]
