"""Listener rules, compiled: from a request's method, host, path and header fields to the rule that takes it.

Pure, bytes everywhere. ALB's semantics: rules are tried by priority, all kinds of condition that a rule sets must hold,
inside a kind any value suffices, and the default action takes the rest. Host and header values compare without case,
path and method with it; the path is looked at without its query, the host without its port.

Every rule is filed under its hosts, then under its paths; a look-up gathers the few that may hold and proves each of
them whole, the lowest priority first. So ten thousand rules on hosts or paths cost what ten do, and a mistake in the
filing could miss a rule but never admit one. Rules that differ in method or header alone are proved one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .patterns import AnyOf, PatternIndex
from .specs import Action, Conditions, Forward, RuleSpec

# From a field name in lower case to the values of its lines; empty when the request has no such field.
HeaderLookup = Callable[[bytes], Sequence[bytes]]

# Rules under one host are filed by path too from this many on; below, proving them costs less than looking.
FEW_RULES = 8


@dataclass(frozen=True, slots=True)
class WeightedGroups:
    """A forward action ready for drawing: the groups that can be drawn, and where each one's share ends."""

    names: tuple[str, ...]
    ends: tuple[int, ...]


def weigh(forward: Forward) -> WeightedGroups:
    names: list[str] = []
    ends: list[int] = []
    for group in forward.groups:
        if group.weight > 0:
            names.append(group.target_group)
            ends.append((ends[-1] if ends else 0) + group.weight)
    return WeightedGroups(tuple(names), tuple(ends))


def pick_group(groups: WeightedGroups, draw: float) -> str | None:
    """The target group for a draw in [0, 1); None when every weight is 0: nobody may be asked, so the answer is 503."""
    names = groups.names
    if len(names) == 1:
        return names[0]
    if not names:
        return None
    return names[bisect_right(groups.ends, draw * groups.ends[-1])]


class CompiledRule:
    """One rule, ready. `label` is its priority or "default"; `forward` is set when the action is a Forward.

    Without conditions it takes everything: that is how the default rule is one of them.
    """

    __slots__ = ("_headers", "_hosts", "_methods", "_paths", "action", "forward", "label", "needs_headers", "order")

    def __init__(self, order: int, label: str, conditions: Conditions, action: Action) -> None:
        self.order = order  # its place among the rules of its table
        self.label = label
        self.action = action
        self.forward = weigh(action) if isinstance(action, Forward) else None
        self._methods = frozenset(method.encode() for method in conditions.method)  # no wildcards, as on ALB
        self._hosts = AnyOf([host.encode().lower() for host in conditions.host]) if conditions.host else None
        self._paths = AnyOf([path.encode() for path in conditions.path]) if conditions.path else None
        self._headers = tuple(
            (name.encode().lower(), AnyOf([value.encode().lower() for value in values]))
            for name, values in conditions.header
        )
        self.needs_headers = bool(self._headers)

    @property
    def hosts(self) -> tuple[bytes, ...]:
        return self._hosts.patterns if self._hosts is not None else ()

    @property
    def paths(self) -> tuple[bytes, ...]:
        return self._paths.patterns if self._paths is not None else ()

    def holds(self, method: bytes, host: bytes, path: bytes, header: HeaderLookup) -> bool:
        """`host` in lower case without port, `path` without query. `header` is called last, and only if need be."""
        if self._methods and method not in self._methods:
            return False
        if self._hosts is not None and not self._hosts.fits(host):
            return False
        if self._paths is not None and not self._paths.fits(path):
            return False
        return not self._headers or all(_any_value_fits(header(name), wanted) for name, wanted in self._headers)

    def first_failure(self, method: bytes, host: bytes, path: bytes, header: HeaderLookup) -> tuple[str, bytes] | None:
        """The first kind of condition that does not hold and the value it met; None when all hold."""
        if self._hosts is not None and not self._hosts.fits(host):
            return "host", host
        if self._paths is not None and not self._paths.fits(path):
            return "path", path
        if self._methods and method not in self._methods:
            return "method", method
        for name, wanted in self._headers:
            values = header(name)
            if not _any_value_fits(values, wanted):
                return f"header {name.decode()}", b", ".join(values)
        return None


def _any_value_fits(values: Sequence[bytes], wanted: AnyOf) -> bool:
    return any(wanted.fits(value.lower()) for value in values)


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule that was tried: `failed` is "" for the one that took the request, else the condition that failed."""

    rule: str
    failed: str
    met: bytes


def host_without_port(host: bytes) -> bytes:
    """`example.org:8080` is example.org, `[2001:db8::1]:8080` is [2001:db8::1]."""
    colon = host.rfind(b":")
    return host if colon < 0 or host.endswith(b"]") else host[:colon]


_Rules = tuple[CompiledRule, ...]  # in order of priority


def _file(rules: _Rules, patterns: Callable[[CompiledRule], tuple[bytes, ...]]) -> dict[bytes, _Rules]:
    """The rules under each of their patterns; one that sets no such condition goes under `*`."""
    filed: dict[bytes, list[CompiledRule]] = {}
    for rule in rules:
        for pattern in dict.fromkeys(patterns(rule) or (b"*",)):
            filed.setdefault(pattern, []).append(rule)
    return {pattern: tuple(some) for pattern, some in filed.items()}


def _merge(filed: Sequence[_Rules]) -> _Rules:
    distinct = {rule.order: rule for some in filed for rule in some}
    return tuple(distinct[order] for order in sorted(distinct))


class _Shelf:
    """The rules of one host, by path when they are many."""

    __slots__ = ("_by_path", "_rules")

    def __init__(self, filed: Sequence[_Rules]) -> None:
        self._rules = [_merge(filed)]
        self._by_path: PatternIndex[_Rules] | None = None
        if len(self._rules[0]) > FEW_RULES:
            self._by_path = PatternIndex(_file(self._rules[0], lambda rule: rule.paths), _merge)

    def candidates(self, path: bytes) -> list[_Rules]:
        return self._rules if self._by_path is None else self._by_path.find(path)


class RuleTable:
    """A listener's rules and its default action.

    The answer depends on header fields if and only if `header` was called, so a caller that remembers answers by
    method, host and path may pass a `header` that notes it was asked.
    """

    __slots__ = ("_by_host", "default", "needs_headers", "rules")

    def __init__(self, rules: Sequence[RuleSpec], default_action: Action) -> None:
        by_priority = sorted(rules, key=lambda rule: rule.priority)
        self.rules = tuple(
            CompiledRule(order, str(rule.priority), rule.conditions, rule.action)
            for order, rule in enumerate(by_priority)
        )
        self.default = CompiledRule(len(self.rules), "default", Conditions(), default_action)
        self.needs_headers = any(rule.needs_headers for rule in self.rules)
        self._by_host = PatternIndex(_file(self.rules, lambda rule: rule.hosts), _Shelf)

    def match(self, method: bytes, host: bytes, path: bytes, header: HeaderLookup) -> CompiledRule:
        """`host` as the Host field has it, port and all; `path` with or without its query."""
        best = self.default
        if not self.rules:
            return best
        host, path = _subject(host, path)
        for shelf in self._by_host.find(host):
            for rules in shelf.candidates(path):
                for rule in rules:
                    if rule.order >= best.order:
                        break
                    if rule.holds(method, host, path, header):
                        best = rule
                        break
        return best

    def explain(self, method: bytes, host: bytes, path: bytes, header: HeaderLookup) -> list[Tried]:
        """Every rule in order up to the one that takes the request, each with the first condition that failed.

        Tries them plainly one after the other: slow, and a second opinion on `match`.
        """
        host, path = _subject(host, path)
        tried: list[Tried] = []
        for rule in (*self.rules, self.default):
            failure = rule.first_failure(method, host, path, header)
            if failure is None:
                tried.append(Tried(rule.label, "", b""))
                break
            tried.append(Tried(rule.label, *failure))
        return tried


def _subject(host: bytes, path: bytes) -> tuple[bytes, bytes]:
    question_mark = path.find(b"?")
    return host_without_port(host).lower(), path if question_mark < 0 else path[:question_mark]
