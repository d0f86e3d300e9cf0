"""Listener rules, compiled: from a request's method, host, path, query, fields and source to the rule that takes it.

Pure, bytes everywhere. ALB's semantics: rules are tried by priority, all kinds of condition that a rule sets must hold,
inside a kind any value suffices, and the default action takes the rest. Host, header and query compare without case,
path and method with it; the path is looked at without its query, the query as it was sent, the host without its port.

Every rule is filed under its hosts, then under its paths, then under the plain parameters of its query or else its
networks; a look-up gathers the few that may hold and proves each of them whole, the lowest priority first. So ten
thousand rules cost what ten do, and a mistake in the filing could miss a rule but never admit one. Rules that differ in
nothing but methods, header fields or wildcards in the query are proved one by one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .first_match import FirstMatch, Match, parse_address, parse_network
from .patterns import AnyOf, PatternIndex, is_literal
from .specs import ALL_PORTS, Action, Conditions, Forward, Parameters, RuleSpec

# From a field name in lower case to the values of its lines; empty when the request has no such field.
HeaderLookup = Callable[[bytes], Sequence[bytes]]

# Rules under one host are filed by path too from this many on, and those under one path by query and source; below,
# proving them costs less than looking.
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

    __slots__ = (
        "_headers",
        "_hosts",
        "_methods",
        "_paths",
        "_queries",
        "_sources",
        "action",
        "forward",
        "label",
        "needs_headers",
        "networks",
        "order",
        "parameters",
    )

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
        self._queries = tuple(map(_compile_parameters, conditions.query))
        self.parameters = _plain_parameters(conditions.query)
        self.networks = tuple(map(parse_network, conditions.source_ip))
        self._sources = _Sources(self.networks) if self.networks else None

    @property
    def hosts(self) -> tuple[bytes, ...]:
        return self._hosts.patterns if self._hosts is not None else ()

    @property
    def paths(self) -> tuple[bytes, ...]:
        return self._paths.patterns if self._paths is not None else ()

    def holds(
        self, method: bytes, host: bytes, path: bytes, header: HeaderLookup, query: bytes = b"", source: str = ""
    ) -> bool:
        """`host` in lower case without port, `path` without query. `header` is called last, and only if need be."""
        if self._methods and method not in self._methods:
            return False
        if self._hosts is not None and not self._hosts.fits(host):
            return False
        if self._paths is not None and not self._paths.fits(path):
            return False
        if self._sources is not None and not self._sources.hold(source):
            return False
        if self._queries and not _any_query_fits(self._queries, query):
            return False
        return not self._headers or all(_any_value_fits(header(name), wanted) for name, wanted in self._headers)

    def first_failure(
        self, method: bytes, host: bytes, path: bytes, header: HeaderLookup, query: bytes = b"", source: str = ""
    ) -> tuple[str, bytes] | None:
        """The first kind of condition that does not hold and the value it met; None when all hold."""
        if self._hosts is not None and not self._hosts.fits(host):
            return "host", host
        if self._paths is not None and not self._paths.fits(path):
            return "path", path
        if self._methods and method not in self._methods:
            return "method", method
        if self._sources is not None and not self._sources.hold(source):
            return "source_ip", source.encode()
        if self._queries and not _any_query_fits(self._queries, query):
            return "query", query
        for name, wanted in self._headers:
            values = header(name)
            if not _any_value_fits(values, wanted):
                return f"header {name.decode()}", b", ".join(values)
        return None


def _any_value_fits(values: Sequence[bytes], wanted: AnyOf) -> bool:
    return any(wanted.fits(value.lower()) for value in values)


_Parameters = tuple[tuple[AnyOf, AnyOf], ...]  # names and values, in lower case


def _compile_parameters(parameters: Parameters) -> _Parameters:
    return tuple(
        (AnyOf([name.encode().lower()]), AnyOf([value.encode().lower() for value in values]))
        for name, values in parameters
    )


def _plain_parameters(alternatives: Sequence[Parameters]) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values of which the query must have one, letter for letter; none when it may have something else."""
    pairs: list[tuple[bytes, bytes]] = []
    for alternative in alternatives:
        for name, values in alternative:
            if all(is_literal(text.encode()) for text in (name, *values)):
                pairs += [(name.lower().encode(), value.lower().encode()) for value in values]
                break
        else:
            return ()
    return tuple(dict.fromkeys(pairs))


@lru_cache(maxsize=4)  # many rules look at one query, and then at the next
def _parameters_of(query: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """As they were sent: ALB decodes neither `%2F` nor `+` before it compares."""
    pairs = (part.partition(b"=") for part in query.lower().split(b"&"))
    return tuple((name, value) for name, _, value in pairs)


def _any_query_fits(alternatives: tuple[_Parameters, ...], query: bytes) -> bool:
    sent = _parameters_of(query) if query else ()
    return any(
        all(any(name.fits(key) and values.fits(value) for key, value in sent) for name, values in wanted)
        for wanted in alternatives
    )


class _Sources:
    """Networks, in one bisection however many there are."""

    __slots__ = ("_index",)

    def __init__(self, networks: tuple[tuple[int, int], ...]) -> None:
        self._index = FirstMatch([Match(networks, ALL_PORTS)])

    def hold(self, source: str) -> bool:
        address = _address(source)
        return address is not None and self._index.find(address, 0)[0] != self._index.nobody


@lru_cache(maxsize=1024)  # a client asks more than once
def _address(source: str) -> int | None:
    """None for who has none: the client at the other end of a unix socket."""
    try:
        return parse_address(source)
    except ValueError:
        return None


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


class _Drawer:
    """The rules of one host and path; by parameter of the query or by network when they are many."""

    __slots__ = ("_always", "_by_network", "_by_parameter", "_sizes", "rules")

    def __init__(self, filed: Sequence[_Rules]) -> None:
        self.rules = _merge(filed)
        many = len(self.rules) > FEW_RULES
        always: list[CompiledRule] = []
        by_parameter: dict[tuple[bytes, bytes], list[CompiledRule]] = {}
        by_network: dict[tuple[int, int], list[CompiledRule]] = {}  # by the first address and the size
        for rule in self.rules:
            if many and rule.parameters:
                for pair in rule.parameters:
                    by_parameter.setdefault(pair, []).append(rule)
            elif many and rule.networks:
                for first, last in dict.fromkeys(rule.networks):
                    by_network.setdefault((first, last - first + 1), []).append(rule)
            else:
                always.append(rule)
        self._always = [tuple(always)]
        self._by_parameter = {pair: tuple(rules) for pair, rules in by_parameter.items()}
        self._by_network = {network: tuple(rules) for network, rules in by_network.items()}
        self._sizes = sorted({size for _, size in by_network})

    def candidates(self, query: bytes, source: str) -> list[_Rules]:
        found = self._always
        if self._by_parameter and query:
            sent = set(_parameters_of(query))
            found = found + [self._by_parameter[pair] for pair in sent if pair in self._by_parameter]
        if self._by_network and (address := _address(source)) is not None:
            around = [(address - address % size, size) for size in self._sizes]
            found = found + [self._by_network[network] for network in around if network in self._by_network]
        return found


class _Shelf:
    """The rules of one host, by path when they are many."""

    __slots__ = ("_by_path", "_drawers")

    def __init__(self, filed: Sequence[_Rules]) -> None:
        self._drawers = [_Drawer(filed)]
        self._by_path: PatternIndex[_Drawer] | None = None
        rules = self._drawers[0].rules
        if len(rules) > FEW_RULES:
            self._by_path = PatternIndex(_file(rules, lambda rule: rule.paths), _Drawer)

    def drawers(self, path: bytes) -> list[_Drawer]:
        return self._drawers if self._by_path is None else self._by_path.find(path)


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

    def match(self, method: bytes, host: bytes, target: bytes, header: HeaderLookup, source: str = "") -> CompiledRule:
        """`host` as the Host field has it, port and all; `target` is path and query; `source` the client's address."""
        best = self.default
        if not self.rules:
            return best
        host = host_without_port(host).lower()
        path, _, query = target.partition(b"?")
        for shelf in self._by_host.find(host):
            for drawer in shelf.drawers(path):
                for rules in drawer.candidates(query, source):
                    for rule in rules:
                        if rule.order >= best.order:
                            break
                        if rule.holds(method, host, path, header, query, source):
                            best = rule
                            break
        return best

    def candidates(self, host: bytes, path: bytes) -> Iterator[CompiledRule]:
        """All rules whose hosts and paths may fit these texts, or these patterns; in no order, some more than once."""
        for shelf in self._by_host.find(host):
            for drawer in shelf.drawers(path):
                yield from drawer.rules

    def explain(self, method: bytes, host: bytes, target: bytes, header: HeaderLookup, source: str = "") -> list[Tried]:
        """Every rule in order up to the one that takes the request, each with the first condition that failed.

        Tries them plainly one after the other: slow, and a second opinion on `match`.
        """
        host = host_without_port(host).lower()
        path, _, query = target.partition(b"?")
        tried: list[Tried] = []
        for rule in (*self.rules, self.default):
            failure = rule.first_failure(method, host, path, header, query, source)
            if failure is None:
                tried.append(Tried(rule.label, "", b""))
                break
            tried.append(Tried(rule.label, *failure))
        return tried
