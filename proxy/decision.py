"""Why a request goes where it goes: every verdict, every rule tried, who could serve it; one immutable record.

Pure: it is told who asks for what and judges by the same compiled firewall, rules and balancing as live requests do,
the slow and thorough way. So it answers for a request that nobody sent, and for one that was served a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .actions import redirect_location
from .balancing.eligibility import eligible
from .edits import RewriteError, rule_edits
from .firewall import Firewall, Verdict
from .http_fields import BadMessage
from .rules import RuleTable, Tried, host_without_port
from .server_names import HostGuard
from .specs import Action, FixedResponse, Forward, ListenerSpec, Redirect, RuleSpec, TargetGroupSpec, TargetSpec


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as decisions depend on it. `host` is the Host field's, `target` path and query."""

    source: str
    source_port: int
    local: str  # our address that it came to
    port: int
    method: bytes
    host: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    server_name: str | None = None  # what the client asked for in its TLS handshake (SNI)

    def values(self, name: bytes) -> Sequence[bytes]:
        return [value for field, value in self.fields if field.lower() == name]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One target of a group: whether it is among those that are picked from, and if not, why."""

    target: str
    weight: int
    zone: str | None
    picked: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """A target group that gets `share` of what the rule takes."""

    target_group: str
    share: float
    algorithm: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """`tried` ends with the rule that took the request; it is empty where no rule is asked, for the firewall admits
    nobody or the request is misdirected."""

    listener: str
    load_balancer: str
    verdicts: tuple[Verdict, ...]  # of every ACL direction and the security groups, in order, up to the first denial
    certificates: tuple[str, ...]  # what the client could be shown: by its algorithms one of them
    tried: tuple[Tried, ...] = ()
    action: str = ""  # forward, redirect, fixed-response; empty where the firewall admits nobody
    answer: str = ""  # of our own: the status, and a redirect's location
    sent_target: str = ""  # what a target is asked for, after rewrites; "500" with the reason where one fails
    sent_host: str = ""
    shares: tuple[Share, ...] = ()
    server_name: str | None = None
    misdirected: bool = False  # its host is another certificate's than the one that its server name is shown
    filters: tuple[str, ...] = ()  # that see it, in order, before it is answered or forwarded

    @property
    def rule(self) -> str:
        """The priority of the rule that took the request, `default`, or empty."""
        return self.tried[-1].rule if self.tried else ""

    @property
    def admitted(self) -> bool:
        return all(verdict.allowed for verdict in self.verdicts)


GroupHealth = Callable[[TargetGroupSpec, TargetSpec], bool]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a listener's decisions depend on besides the request. The rule table is compiled from the listener."""

    listener: ListenerSpec
    table: RuleTable
    firewall: Firewall
    groups: Mapping[str, TargetGroupSpec]
    group_firewalls: Mapping[str, Firewall]
    is_healthy: GroupHealth
    certificates: Callable[[str], tuple[str, ...]]  # by server name, empty where there is none
    guard: Callable[[str], HostGuard | None]  # by server name


def decide(asked: Asked, around: Surroundings) -> Decision:
    spec = around.listener
    # A unix socket is guarded by its permissions, and nobody at it has an address to judge.
    judged = () if spec.is_unix else around.firewall.explain(asked.source, asked.source_port, asked.local, asked.port)
    verdicts = tuple(judged)
    secure = spec.protocol in ("HTTPS", "TLS")
    name = asked.server_name if secure else None
    certificates = around.certificates(name or "") if secure else ()
    if not all(verdict.allowed for verdict in verdicts):
        return Decision(spec.key, spec.load_balancer, verdicts, certificates, server_name=name)
    if spec.protocol == "HTTPS" and name is not None and _is_misdirected(asked, around.guard(name)):
        return Decision(
            spec.key, spec.load_balancer, verdicts, certificates, answer="421", server_name=name, misdirected=True
        )
    if spec.protocol in ("TCP", "TLS"):
        tried: tuple[Tried, ...] = (Tried("default", "", b""),)
    else:
        tried = tuple(around.table.explain(asked.method, asked.host, asked.target, asked.values, asked.source))
    rule = next((rule for rule in spec.rules if str(rule.priority) == tried[-1].rule), None)
    action = spec.default_action if rule is None else rule.action
    kind, answer = _answer(action, asked, secure=secure)
    sent_target, sent_host = _rewritten(spec, rule, asked) if isinstance(action, Forward) else ("", "")
    return Decision(
        spec.key,
        spec.load_balancer,
        verdicts,
        certificates,
        tried,
        kind,
        answer,
        sent_target,
        sent_host,
        tuple(_shares(action, around)),
        name,
        filters=tuple(each.name for each in (*spec.filters, *(() if rule is None else rule.filters))),
    )


def _is_misdirected(asked: Asked, guard: HostGuard | None) -> bool:
    try:
        if guard is not None:
            guard.check(host_without_port(asked.host).lower())
    except BadMessage:
        return True
    return False


def _answer(action: Action, asked: Asked, *, secure: bool) -> tuple[str, str]:
    if isinstance(action, Redirect):
        path, _, query = asked.target.partition(b"?")
        protocol = b"https" if secure else b"http"
        host = host_without_port(asked.host)
        to = redirect_location(action, protocol=protocol, host=host, port=asked.port, path=path, query=query)
        return "redirect", f"{action.status} {to.decode('latin-1')}"
    if isinstance(action, FixedResponse):
        return "fixed-response", str(action.status)
    return "forward", ""


def _rewritten(spec: ListenerSpec, rule: RuleSpec | None, asked: Asked) -> tuple[str, str]:
    edits = None if rule is None else rule_edits(spec, rule)
    host, target = b"Host: " + asked.host, asked.target
    if edits is not None:
        try:
            target, fields = edits.request(target, host + b"\r\n")
        except RewriteError as error:
            return f"500 rewrite_failed: {error}", ""
        host = next((line for line in fields.split(b"\r\n") if line[:5].lower() == b"host:"), b"")
    return target.decode("latin-1"), host[6:].decode("latin-1")


def _shares(action: Action, around: Surroundings) -> list[Share]:
    if not isinstance(action, Forward):
        return []
    total = sum(group.weight for group in action.groups)
    shares: list[Share] = []
    for weighted in action.groups:
        group = around.groups[weighted.target_group]
        share = weighted.weight / total if total else 0.0
        shares.append(Share(group.name, share, group.algorithm, tuple(_candidates(group, around))))
    return shares


def _candidates(group: TargetGroupSpec, around: Surroundings) -> list[Candidate]:
    def healthy(target: TargetSpec) -> bool:
        return around.is_healthy(group, target)

    firewall = around.group_firewalls.get(group.name)
    picked = eligible(
        [_Standing(target) for target in group.targets],
        lambda each: healthy(each.spec),
        minimum_healthy=group.minimum_healthy_percentage,
        fail_open=group.fail_open,
    )
    keys = {each.key for each in picked}
    found: list[Candidate] = []
    for target in group.targets:
        verdict = None if firewall is None or target.is_unix else firewall.opening(target.ip, target.port)
        why = ""
        if target.key not in keys:
            why = "standby: its weight is 0" if healthy(target) else "unhealthy, or left out for its failures"
        elif verdict is not None and not verdict.allowed:
            why = f"picked, and answered with 503: {verdict.reason}"
        found.append(Candidate(target.key, target.weight, target.zone, target.key in keys, why))
    return found


@dataclass(frozen=True, slots=True)
class _Standing:
    """A target as a balancer sees one, with nothing in flight."""

    spec: TargetSpec

    @property
    def weight(self) -> int:
        return self.spec.weight

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def in_flight(self) -> int:
        return 0

    @property
    def latency(self) -> float:
        return 0.0
