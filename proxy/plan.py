"""What a listener does with a request, compiled once per configuration: rules, actions, target groups in hand.

A session takes the plan on a request's first line and keeps to it; a reload swaps the listener's plan by one
assignment. Everything that depends on the configuration alone is computed here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from .actions import fixed_response, redirect_location, redirect_response
from .http1 import RequestHead
from .rules import RuleTable, WeightedGroups, pick_group, weigh
from .specs import Action, FixedResponse, Forward, ListenerSpec, Redirect
from .targets import TargetGroup


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

    def draw(self, rng: random.Random) -> TargetGroup | None:
        """One of several groups by weight; None when all weights are 0 (ALB answers 503 then)."""
        assert self.weighted is not None
        name = pick_group(self.weighted, rng.random())
        return next((group for group in self.groups if group.name == name), None)

    def answer(self, asked: Asked, *, date: bytes, close: bool) -> tuple[int, bytes] | None:
        """Status and bytes of an answer that needs no target; None when the action is to forward."""
        action = self.action
        if isinstance(action, FixedResponse):
            return action.status, fixed_response(action, date=date, close=close, head=asked.method == b"HEAD")
        if isinstance(action, Redirect):
            return action.status, redirect_response(action, asked.location(action), date=date, close=close)
        return None


class Plan:
    __slots__ = ("_routes", "_table", "default", "only_route")

    def __init__(self, spec: ListenerSpec, groups: Mapping[str, TargetGroup]) -> None:
        self.default = _route("default", spec.default_action, groups)
        self._table = RuleTable(spec.rules, spec.default_action) if spec.rules else None
        self._routes = {str(rule.priority): _route(str(rule.priority), rule.action, groups) for rule in spec.rules}
        self._routes["default"] = self.default
        # Without rules there is nothing to decide per request.
        self.only_route = self.default if self._table is None else None

    def route(self, method: bytes, target: bytes, head: RequestHead) -> Route:
        """`target` is the request target in origin-form; the query has no part in the path's rules."""
        assert self._table is not None, "without rules there is `only_route`"
        rule = self._table.match(method, head.host, target.partition(b"?")[0], head.values)
        return self._routes[rule.label]


def _route(label: str, action: Action, groups: Mapping[str, TargetGroup]) -> Route:
    match action:
        case Forward(groups=(only,)) if only.weight > 0:
            return Route(label, action, groups[only.target_group])
        case Forward():
            chosen = tuple(groups[weighted.target_group] for weighted in action.groups)
            return Route(label, action, None, chosen, weigh(action))
        case Redirect() | FixedResponse():
            return Route(label, action, None)
