"""Which rules leave nothing to others: a pattern that another one covers, a rule that comes too late.

Pure, and for `penstock check` alone. It claims only what is certain: of two rules it may miss that one covers the
other, but where it says so, no request and no packet can tell that the covered rule is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .first_match import parse_network
from .rules import RuleTable
from .specs import Conditions, FixedResponse, Parameters, RuleSpec

# Pairs that are looked at: some 2 s at worst, in files whose thousands of rules all look alike.
MAX_PAIRS = 200_000


def pattern_covers(wide: bytes, narrow: bytes) -> bool:
    """Whether `wide` fits every text that `narrow` fits.

    `narrow` is read as a text in which its own wildcards are letters that only a wildcard as wide can stand for. One
    pass over `narrow` with the set of places in `wide` that may have been reached.
    """
    star, question = ord("*"), ord("?")
    reached = _past_stars({0}, wide)
    for letter in narrow:
        onward: set[int] = set()
        for at in reached:
            if at == len(wide):
                continue
            if wide[at] == star:
                onward.add(at)
            elif letter != star and wide[at] in (question, letter):
                onward.add(at + 1)
        reached = _past_stars(onward, wide)
        if not reached:
            return False
    return len(wide) in reached


def _past_stars(places: set[int], pattern: bytes) -> set[int]:
    """A star may stand for nothing."""
    for at in sorted(places):
        while at < len(pattern) and pattern[at] == ord("*"):
            at += 1
            places.add(at)
    return places


def _values_cover(wide: Sequence[str], narrow: Sequence[str], *, case: bool) -> bool:
    if not case:
        wide, narrow = [each.lower() for each in wide], [each.lower() for each in narrow]
    return all(any(pattern_covers(one.encode(), other.encode()) for one in wide) for other in narrow)


def conditions_cover(wide: Conditions, narrow: Conditions) -> bool:
    """Whether every request for which `narrow` holds is one for which `wide` does."""
    for kind, case in (("host", False), ("path", True)):
        wanted: tuple[str, ...] = getattr(wide, kind)
        given: tuple[str, ...] = getattr(narrow, kind)
        if wanted and not (given and _values_cover(wanted, given, case=case)):
            return False
    if wide.method and not (narrow.method and set(narrow.method) <= set(wide.method)):
        return False
    if wide.header and not _parameters_cover(wide.header, narrow.header, exact_names=True):
        return False
    if wide.query and not (
        narrow.query
        and all(any(_parameters_cover(one, other, exact_names=False) for one in wide.query) for other in narrow.query)
    ):
        return False
    return not wide.source_ip or bool(
        narrow.source_ip and all(any(_inside(one, other) for one in wide.source_ip) for other in narrow.source_ip)
    )


def _parameters_cover(wide: Parameters, narrow: Parameters, *, exact_names: bool) -> bool:
    def same(one: str, other: str) -> bool:
        if exact_names:
            return one.lower() == other.lower()
        return pattern_covers(one.lower().encode(), other.lower().encode())

    return all(
        any(same(name, other) and _values_cover(values, theirs, case=False) for other, theirs in narrow)
        for name, values in wide
    )


def _inside(outer: str, inner: str) -> bool:
    (first, last), (low, high) = parse_network(outer), parse_network(inner)
    return first <= low and high <= last


def shadowed(rules: Sequence[RuleSpec]) -> Iterator[tuple[RuleSpec, RuleSpec]]:
    """(a rule that can never match, the rule before it that takes everything)."""
    by_label = {str(rule.priority): rule for rule in rules}
    table = RuleTable(rules, FixedResponse(404))
    pairs = 0
    for compiled in table.rules:
        rule = by_label[compiled.label]
        # What covers a pattern fits it as a text too, so the compiled table finds the few that might.
        host = compiled.hosts[0] if compiled.hosts else b"*"
        path = compiled.paths[0] if compiled.paths else b"*"
        before = {each.order: each for each in table.candidates(host, path) if each.order < compiled.order}
        for order in sorted(before):
            pairs += 1
            if pairs > MAX_PAIRS:
                return
            earlier = by_label[before[order].label]
            if conditions_cover(earlier.conditions, rule.conditions):
                yield rule, earlier
                break


@dataclass(frozen=True, slots=True)
class Admission:
    """One firewall rule: `networks` None are those of the security group `group`."""

    protocol: str
    ports: tuple[int, int]
    network: tuple[int, int] | None
    group: str = ""


def covered(rules: Sequence[Admission], *, ordered: bool) -> Iterator[tuple[int, int]]:
    """(index of a rule that adds nothing, index of the one that says all of it).

    `ordered`: only a rule before it can make another one idle, as in an ACL. Else any can, and of two that say the
    same the later is the idle one.
    """
    # Blocks nest or are apart: what holds a block is that block or a wider one of the same address, masked.
    filed: dict[tuple[int, int] | str, list[int]] = {}
    sizes: set[int] = set()
    for index, rule in enumerate(rules):
        filed.setdefault(rule.group if rule.network is None else rule.network, []).append(index)
        if rule.network is not None:
            sizes.add(rule.network[1] - rule.network[0])
    pairs = 0
    for index, rule in enumerate(rules):
        places: list[tuple[int, int] | str] = [rule.group]
        if rule.network is not None:
            first, last = rule.network
            wider = [size for size in sorted(sizes) if size >= last - first]
            places = [(first & ~size, (first & ~size) + size) for size in wider]
        for other in (each for place in places for each in filed.get(place, ())):
            if other == index or (ordered and other > index):
                continue
            pairs += 1
            if pairs > MAX_PAIRS:
                return
            if _says_all(rules[other], rule) and (other < index or not _says_all(rule, rules[other])):
                yield index, other
                break


def _says_all(wide: Admission, narrow: Admission) -> bool:
    if wide.network is None or narrow.network is None:
        if wide.network is not narrow.network or wide.group != narrow.group:
            return False
    elif not (wide.network[0] <= narrow.network[0] and narrow.network[1] <= wide.network[1]):
        return False
    if wide.protocol not in (narrow.protocol, "all"):
        return False
    return wide.ports[0] <= narrow.ports[0] and narrow.ports[1] <= wide.ports[1]
