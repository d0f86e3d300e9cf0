"""What follows from a specification alone and takes long when it is large: rule tables and firewalls.

It is made before anything changes, in a thread where it would hold up the loop, and what did not change is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from .firewall import Firewall, TransportProtocol
from .rules import RuleTable
from .specs import FirewallSpec, ListenerSpec, ProxySpec, TargetGroupSpec

# Rules of listeners and security groups that are compiled in the time of one request or two, 0.5 ms.
FEW = 100


def transport_of(spec: ListenerSpec | TargetGroupSpec) -> TransportProtocol:
    return "udp" if spec.protocol == "UDP" else "tcp"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Of one specification, which it keeps: firewalls are found by the identity of theirs, for to hash one of 10,000
    rules takes 20 ms."""

    spec: ProxySpec = field(default_factory=ProxySpec)
    tables: Mapping[str, RuleTable] = field(default_factory=dict)  # by listener
    _listeners: Mapping[str, ListenerSpec] = field(default_factory=dict)
    _firewalls: Mapping[tuple[FirewallSpec, TransportProtocol], Firewall] = field(default_factory=dict)
    _by_identity: Mapping[tuple[int, TransportProtocol], Firewall] = field(default_factory=dict)

    def firewall(self, spec: FirewallSpec, transport: TransportProtocol = "tcp") -> Firewall:
        """One that the specification has, or an equal one, or else made now."""
        known = self._by_identity.get((id(spec), transport)) or self._firewalls.get((spec, transport))
        return known or Firewall(spec, transport)

    async def then(self, spec: ProxySpec) -> Compiled:
        """The same of the next specification."""
        if _size(spec) <= FEW:
            return self._compile(spec)
        return await asyncio.to_thread(self._compile, spec)

    def _compile(self, spec: ProxySpec) -> Compiled:
        wanted: list[tuple[FirewallSpec, TransportProtocol]]
        wanted = [(listener.firewall, transport_of(listener)) for listener in spec.listeners]
        groups = {group.name: group for group in spec.target_groups}
        for name, firewall in spec.group_firewalls:
            wanted.append((firewall, "tcp"))  # checks
            if name in groups:
                wanted.append((firewall, transport_of(groups[name])))
        firewalls: dict[tuple[FirewallSpec, TransportProtocol], Firewall] = {}
        by_identity: dict[tuple[int, TransportProtocol], Firewall] = {}
        for firewall, transport in wanted:
            if (id(firewall), transport) not in by_identity:
                key = firewall, transport
                made = firewalls.get(key) or self._firewalls.get(key) or Firewall(firewall, transport)
                firewalls[key] = by_identity[id(firewall), transport] = made
        return Compiled(
            spec,
            {listener.key: self._table(listener) for listener in spec.listeners},
            {listener.key: listener for listener in spec.listeners},
            firewalls,
            by_identity,
        )

    def _table(self, spec: ListenerSpec) -> RuleTable:
        before = self._listeners.get(spec.key)
        if before is not None and (before.rules, before.default_action) == (spec.rules, spec.default_action):
            return self.tables[spec.key]
        return RuleTable(spec.rules, spec.default_action)


def _size(spec: ProxySpec) -> int:
    rules = sum(len(listener.rules) for listener in spec.listeners)
    firewalls = {id(listener.firewall): listener.firewall for listener in spec.listeners}
    groups = [group for firewall in firewalls.values() for group in firewall.groups or ()]
    return rules + sum(len(group.ingress) + len(group.egress) for group in groups)
