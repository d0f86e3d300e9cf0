"""The addresses of one subnet: who has which, what is free, and why nothing is when nothing is.

Pure: `now` comes with each call. Every method is one step that nothing can interrupt, so callers that share a pool on
one loop are never given one address twice. The free space is a sorted list of runs, not a set of addresses: a /64 costs
no more than a /28, an allocation takes the lower end of the lowest run, and fragmentation can be read off.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from .errors import AddressError, AddressesExhausted
from .values import is_ipv6

# AWS takes the first four and the last: network, router, DNS, one for later, broadcast. In IPv6 too.
RESERVED_FIRST = 4
RESERVED_LAST = 1
# A released address may stand in caches of ARP, DNS and clients. DNS answers live 60 s by default; twice that is calm.
QUARANTINE = 120.0


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What a pool looks like now. `largest_free_prefix` is the largest aligned block, None where nothing is free."""

    cidr: str
    usable: int
    free: int
    used: int
    quarantined: int
    free_runs: int
    largest_free_prefix: int | None


class Runs:
    """Free numbers as disjoint runs in order. `take` and `give` are the only ways in which they change."""

    __slots__ = ("_firsts", "_lasts", "free")

    def __init__(self, first: int, last: int) -> None:
        self._firsts: list[int] = []  # parallel lists: bisect then compares plain numbers
        self._lasts: list[int] = []
        self.free = 0
        if first <= last:
            self.give(first, last)

    def __len__(self) -> int:
        return len(self._firsts)

    def lowest(self) -> int | None:
        return self._firsts[0] if self._firsts else None

    def holds(self, first: int, last: int) -> bool:
        at = bisect_right(self._firsts, first) - 1
        return at >= 0 and last <= self._lasts[at]

    def take(self, first: int, last: int) -> bool:
        """False, and nothing changed, if any of it was not free."""
        at = bisect_right(self._firsts, first) - 1
        if at < 0 or last > self._lasts[at]:
            return False
        run_first, run_last = self._firsts[at], self._lasts[at]
        self.free -= last - first + 1
        if run_first < first:
            self._lasts[at] = first - 1
            if last < run_last:
                self._firsts.insert(at + 1, last + 1)
                self._lasts.insert(at + 1, run_last)
        elif last < run_last:
            self._firsts[at] = last + 1
        else:
            del self._firsts[at], self._lasts[at]
        return True

    def give(self, first: int, last: int) -> None:
        """Of numbers that are not free; they join the runs beside them."""
        at = bisect_left(self._firsts, first)
        self.free += last - first + 1
        joins_before = at > 0 and self._lasts[at - 1] == first - 1
        joins_after = at < len(self._firsts) and self._firsts[at] == last + 1
        if joins_before and joins_after:
            self._lasts[at - 1] = self._lasts[at]
            del self._firsts[at], self._lasts[at]
        elif joins_before:
            self._lasts[at - 1] = last
        elif joins_after:
            self._firsts[at] = first
        else:
            self._firsts.insert(at, first)
            self._lasts.insert(at, last)

    def aligned(self, size: int) -> int | None:
        """Where the first block of `size` (a power of two) begins that is free and aligned, as CIDR blocks are."""
        for first, last in zip(self._firsts, self._lasts, strict=True):
            start = (first + size - 1) // size * size
            if start + size - 1 <= last:
                return start
        return None

    def largest_aligned(self) -> int:
        """The size of the largest aligned free block; 0 if nothing is free."""
        largest = 0
        for first, last in zip(self._firsts, self._lasts, strict=True):
            size = 1 << ((last - first + 1).bit_length() - 1)
            while size > largest:
                if (first + size - 1) // size * size + size - 1 <= last:
                    largest = size
                    break
                size >>= 1
        return largest


class AddressPool:
    """One subnet's addresses. An owner (an interface, a reservation, a target) has one range, and asks by its name."""

    __slots__ = (
        "_address",
        "_high",
        "_low",
        "_owners",
        "_quarantine",
        "_quarantined",
        "_ranges",
        "_runs",
        "_width",
        "cidr",
        "name",
    )

    def __init__(self, name: str, cidr: str, quarantine: float = QUARANTINE) -> None:
        network = ip_network(cidr)
        self.name = name
        self.cidr = cidr
        self._address: type[IPv4Address | IPv6Address] = IPv6Address if is_ipv6(cidr) else IPv4Address
        self._width = network.max_prefixlen
        self._low = int(network.network_address) + RESERVED_FIRST
        self._high = int(network.broadcast_address) - RESERVED_LAST
        self._quarantine = quarantine
        self._runs = Runs(self._low, self._high)
        self._ranges: dict[str, tuple[int, int]] = {}  # owner -> first and last
        self._owners: dict[int, str] = {}  # first -> owner
        self._quarantined: deque[tuple[float, int, int]] = deque()  # (until, first, last), the earliest first

    def allocate(self, owner: str, now: float) -> str:
        """The lowest free address; the same one again for an owner that has one."""
        held = self._ranges.get(owner)
        if held is None:
            self._reap(now)
            first = self._runs.lowest()
            if first is None:
                raise self._exhausted(self._width, now)
            held = self._hold(owner, first, first)
        elif held[0] != held[1]:
            raise AddressError(f"{owner} holds {self._text(*held)} of {self.name}: a block, not one address")
        return str(self._address(held[0]))

    def allocate_block(self, owner: str, prefix: int, now: float) -> str:
        """The lowest free CIDR block of that length, for those that give addresses on to others."""
        if not 0 <= prefix <= self._width:
            raise AddressError(f"a block of {self.cidr} has a prefix length up to {self._width}, not {prefix}")
        size = 1 << (self._width - prefix)
        held = self._ranges.get(owner)
        if held is None:
            self._reap(now)
            first = self._runs.aligned(size)
            if first is None:
                raise self._exhausted(prefix, now)
            held = self._hold(owner, first, first + size - 1)
        elif held[1] - held[0] + 1 != size:
            raise AddressError(f"{owner} holds {self._text(*held)} of {self.name}, which is no /{prefix}")
        return f"{self._address(held[0])}/{prefix}"

    def reserve(self, owner: str, what: str, now: float) -> str:
        """A given address, or CIDR block. In quarantine it is still somebody's, and refused."""
        self._reap(now)
        first, last = self._parse(what)
        held = self._ranges.get(owner)
        if held == (first, last):
            return what
        if held is not None:
            raise AddressError(f"{owner} holds {self._text(*held)} of {self.name}: release that before taking {what}")
        if first < self._low or last > self._high:
            raise AddressError(self._outside(what, first, last))
        if not self._runs.holds(first, last):
            raise AddressError(self._taken(what, first, last, now))
        self._hold(owner, first, last)
        return what

    def release(self, owner: str, now: float) -> None:
        """Nobody gets it before the quarantine is over. An owner that holds nothing has nothing to lose."""
        held = self._ranges.pop(owner, None)
        if held is None:
            return
        del self._owners[held[0]]
        self._quarantined.append((now + self._quarantine, *held))

    def who(self, address: str) -> str | None:
        """The owner, also of a block around it."""
        number = int(ip_address(address))
        owner = self._owners.get(number)
        if owner is not None:
            return owner
        return next((name for name, (first, last) in self._ranges.items() if first <= number <= last), None)

    def report(self, now: float) -> PoolReport:
        self._reap(now)
        usable = max(0, self._high - self._low + 1)
        quarantined = sum(last - first + 1 for _, first, last in self._quarantined)
        return PoolReport(
            self.cidr,
            usable,
            self._runs.free,
            usable - self._runs.free - quarantined,
            quarantined,
            len(self._runs),
            self._largest(),
        )

    def _hold(self, owner: str, first: int, last: int) -> tuple[int, int]:
        self._runs.take(first, last)
        self._owners[first] = owner
        self._ranges[owner] = first, last
        return first, last

    def _reap(self, now: float) -> None:
        # One period for all, so they end in the order they began. A clock that went back makes some wait, none leave.
        while self._quarantined and self._quarantined[0][0] <= now:
            _, first, last = self._quarantined.popleft()
            self._runs.give(first, last)

    def _parse(self, what: str) -> tuple[int, int]:
        try:
            network = ip_network(what)
        except ValueError as error:
            raise AddressError(f'"{what}" is neither an address nor a CIDR block') from error
        if network.max_prefixlen != self._width:
            raise AddressError(f"{what} is of the other family than {self.cidr} of {self.name}")
        return int(network.network_address), int(network.broadcast_address)

    def _text(self, first: int, last: int) -> str:
        if first == last:
            return str(self._address(first))
        return f"{self._address(first)}/{self._width - (last - first).bit_length()}"

    def _largest(self) -> int | None:
        size = self._runs.largest_aligned()
        return self._width - (size.bit_length() - 1) if size else None

    def _outside(self, what: str, first: int, last: int) -> str:
        base, top = self._low - RESERVED_FIRST, self._high + RESERVED_LAST
        if last < base or first > top:
            return f"{what} is not inside {self.cidr} of {self.name}"
        if first == last:
            roles = {base: "the network", base + 1: "the router", base + 2: "DNS", base + 3: "later use"}
            return f"{what} is reserved in {self.name}, for {roles.get(first, 'broadcast')}"
        return f"{what} holds reserved addresses of {self.name}: the first four and the last of {self.cidr}"

    def _taken(self, what: str, first: int, last: int, now: float) -> str:
        for owner, (held_first, held_last) in self._ranges.items():
            if held_first <= last and first <= held_last:
                return f"{what} is taken in {self.name}: {owner} holds {self._text(held_first, held_last)}"
        until = max(until for until, held, end in self._quarantined if held <= last and first <= end)
        return f"{what} was released in {self.name} and stays in quarantine for {until - now:.0f} s more"

    def _exhausted(self, prefix: int, now: float) -> AddressesExhausted:
        report = self.report(now)
        wanted = "address" if prefix == self._width else f"/{prefix}"
        said = f"{self.name} ({self.cidr}) has no free {wanted}: {report.used} of {report.usable} are used"
        if report.quarantined:
            soonest = self._quarantined[0][0] - now
            said += f", {report.quarantined} in quarantine (the first for {soonest:.0f} s more)"
        if report.free:
            largest = f"the largest block a /{report.largest_free_prefix}"
            said += f", {report.free} are free in {report.free_runs} pieces, {largest}"
        needed = prefix if prefix < self._width else ip_network(self.cidr).prefixlen
        said += (
            f"; add a subnet with room for a /{needed}" if report.free else f"; add a subnet, such as another /{needed}"
        )
        return AddressesExhausted(
            said, free=report.free, quarantined=report.quarantined, largest_free_prefix=report.largest_free_prefix
        )


def next_subnet(cidrs: Sequence[str], taken: Iterable[str], prefix: int) -> str:
    """The lowest free block of that length in a network's CIDRs, none of which is in `taken`."""
    taken = tuple(taken)
    largest: int | None = None
    free = 0
    for cidr in cidrs:
        network = ip_network(cidr)
        if prefix > network.max_prefixlen:
            continue
        runs = Runs(int(network.network_address), int(network.broadcast_address))
        for other in map(ip_network, taken):
            if other.version == network.version and other.network_address in network:
                runs.take(int(other.network_address), int(other.broadcast_address))
        start = runs.aligned(1 << (network.max_prefixlen - prefix))
        if start is not None:
            return f"{(IPv6Address if network.version == 6 else IPv4Address)(start)}/{prefix}"
        free += runs.free
        if runs.free:
            found = network.max_prefixlen - (runs.largest_aligned().bit_length() - 1)
            largest = found if largest is None else min(largest, found)
    fits = f"the largest free block is a /{largest}" if largest is not None else "all of it is taken"
    message = f"no /{prefix} is free in {', '.join(cidrs)}: {fits}; add a CIDR with room for a /{prefix} to the network"
    raise AddressesExhausted(message, free=free, quarantined=0, largest_free_prefix=largest)
