"""What a listener does with a request, compiled once per configuration: rules, actions, target groups in hand.

A session takes the plan on a request's first line and keeps to it; a reload swaps the listener's plan by one
assignment. Everything that depends on the configuration alone is computed here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from .actions import fixed_response, redirect_location, redirect_response
from .edits import Edits, listener_edits, rule_edits
from .filter_chain import Chain, chain_of
from .http1 import RequestHead
from .rules import RuleTable, WeightedGroups, pick_group, weigh
from .specs import Action, FilterSpec, FixedResponse, Forward, ListenerSpec, Redirect
from .stickiness import GroupStickiness
from .targets import TargetGroup

if TYPE_CHECKING:
    from .filter_pool import LiveFilter

NO_FILTERS: Mapping[FilterSpec, LiveFilter] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer of our own depends on of a request: `port` is the listener's, `host` comes without one."""

    method: bytes
    uri: bytes
    host: bytes
    port: int
    secure: bool

    def location(self, redirect: Redirect) -> bytes:
        path, _, query = self.uri.partition(b"?")
        protocol = b"https" if self.secure else b"http"
        return redirect_location(redirect, protocol=protocol, host=self.host, port=self.port, path=path, query=query)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: `group` for the usual forward to one group, else look at `action`."""

    label: str  # the rule's priority, or "default"
    action: Action
    group: TargetGroup | None
    groups: tuple[TargetGroup, ...] = ()
    weighted: WeightedGroups | None = None
    edits: Edits | None = None  # what is changed in what goes through
    plan: Plan | None = field(default=None, repr=False, compare=False)  # it is a part of
    sticky: GroupStickiness | None = None
    body_limit: int = 0
    request_timeout: float = 0.0
    filters: Chain | None = None  # that have a part in more than the log; then `group` is None, whatever the action

    def draw(self, rng: random.Random) -> TargetGroup | None:
        """One of several groups by weight; None when all weights are 0 (ALB answers 503 then)."""
        assert self.weighted is not None
        return self.of(pick_group(self.weighted, rng.random()))

    def drawn_before(self, head: RequestHead) -> TargetGroup | None:
        """The group that this client drew, if it still has a share: a weight of 0 moves everyone."""
        assert self.weighted is not None
        name = self.sticky.find(head) if self.sticky is not None else None
        return self.of(name) if name in self.weighted.names else None

    def of(self, name: str | None) -> TargetGroup | None:
        return next((group for group in self.groups if group.name == name), None)

    def answer(self, asked: Asked, *, date: bytes, close: bool) -> tuple[int, bytes] | None:
        """Status and bytes of an answer that needs no target; None when the action is to forward."""
        action = self.action
        if isinstance(action, FixedResponse):
            answer = fixed_response(action, date=date, close=close, head=asked.method == b"HEAD")
        elif isinstance(action, Redirect):
            answer = redirect_response(action, asked.location(action), date=date, close=close)
        else:
            return None
        return action.status, answer if self.edits is None else self.edits.answer(answer)


class Plan:
    __slots__ = ("_chains", "_routes", "default", "logs", "only_route", "spec", "table")

    def __init__(
        self,
        spec: ListenerSpec,
        table: RuleTable,
        groups: Mapping[str, TargetGroup],
        sticky_key: bytes = b"",
        filters: Mapping[FilterSpec, LiveFilter] = NO_FILTERS,
    ) -> None:
        edits = listener_edits(spec)
        self._chains = {str(rule.priority): chain_of(spec, rule, filters) for rule in spec.rules if rule.filters}
        self._chains["default"] = chain = chain_of(spec, None, filters)
        self.logs = any(each is not None and each.on_log.hooks for each in self._chains.values())
        self.spec = spec
        limits = spec.limits
        self.default = replace(
            _route("default", spec.default_action, groups, edits, sticky_key, chain),
            plan=self,
            body_limit=limits.body,
            request_timeout=limits.request_timeout,
        )
        self.table = table  # of the specification's rules
        self._routes = {
            label: replace(
                _route(
                    label,
                    rule.action,
                    groups,
                    rule_edits(spec, rule) or edits,
                    sticky_key,
                    self._chains.get(label, chain),
                ),
                plan=self,
                body_limit=limits.body if rule.body_limit is None else rule.body_limit,
                request_timeout=limits.request_timeout if rule.request_timeout is None else rule.request_timeout,
            )
            for label, rule in ((str(rule.priority), rule) for rule in spec.rules)
        }
        self._routes["default"] = self.default
        # Without rules and rate limits there is nothing to decide per request.
        self.only_route = None if spec.rules or spec.limits.rates else self.default

    def route(self, method: bytes, target: bytes, head: RequestHead, source: str) -> Route:
        """`target` is the request target in origin-form, `source` the client's address."""
        return self._routes[self.table.match(method, head.host, target, head.values, source).label]

    def chain(self, label: str | None) -> Chain | None:
        """The filters of a rule by its label; those of the listener where there is no such rule, or None was met."""
        return self._chains.get(label or "default", self._chains["default"])


def _route(
    label: str,
    action: Action,
    groups: Mapping[str, TargetGroup],
    edits: Edits | None,
    sticky_key: bytes,
    chain: Chain | None,
) -> Route:
    filters = chain if chain is not None and chain.intercepts else None
    match action:
        case Forward(groups=(only,)) if only.weight > 0 and filters is None:
            return Route(label, action, groups[only.target_group], edits=edits)
        case Forward():
            chosen = tuple(groups[weighted.target_group] for weighted in action.groups)
            sticky = None
            if action.stickiness:
                sticky = GroupStickiness((group.name for group in chosen), action.stickiness, sticky_key)
            return Route(label, action, None, chosen, weigh(action), edits, sticky=sticky, filters=filters)
        case Redirect() | FixedResponse():
            return Route(label, action, None, edits=edits, filters=filters)
