"""One immutable picture of a network, and what may be done to it: each operation gives another picture, or a refusal.

Pure functions from state to state, so a plan is a state that nobody keeps, a watcher compares two, and readers never
see half of a change. A create that says what is there already changes nothing and gives the same state back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, cast

from .checks import mistakes
from .errors import Conflict, InUse, Invalid, Mistake, NotFound, QuotaExceeded
from .model import (
    KINDS,
    InternetGateway,
    LoadBalancer,
    NetworkAcl,
    NetworkInterface,
    Peering,
    RouteTable,
    Subnet,
    Thing,
    VirtualNetwork,
)
from .quotas import DEFAULT_QUOTAS, Quotas
from .references import references
from .usage import over_quota
from .values import Block

T = TypeVar("T", bound=Thing)

Things = Mapping[type[Thing], Mapping[str, Thing]]

_NOTHING: Things = MappingProxyType({kind: MappingProxyType[str, Thing]({}) for kind in KINDS})


@dataclass(frozen=True)
class NetworkState:
    """`revision` counts the changes, so that two pictures of one network have an order."""

    things: Things = field(default_factory=lambda: _NOTHING, repr=False)
    quotas: Quotas = DEFAULT_QUOTAS
    revision: int = 0

    def find(self, kind: type[T], name: str | None) -> T | None:
        return cast("T | None", self.things[kind].get(name)) if name is not None else None

    def get(self, kind: type[T], name: str) -> T:
        found = self.find(kind, name)
        if found is None:
            raise NotFound(kind.kind, name, next(iter(get_close_matches(name, self.things[kind], 1)), None))
        return found

    def list(self, kind: type[T]) -> tuple[T, ...]:
        """In the order of their names."""
        return tuple(cast("T", self.things[kind][name]) for name in sorted(self.things[kind]))

    def create(self, *things: Thing) -> NetworkState:
        """All of them or none; they may refer to each other."""
        new: dict[tuple[type[Thing], str], Thing] = {}
        for thing in things:
            key = type(thing), thing.name
            existing = self.find(*key) or new.get(key)
            if existing is None:
                new[key] = thing
            elif existing != thing:
                raise Conflict(thing.kind, thing.name, _differences(existing, thing))
        return self._put(new.values())

    def update(self, *things: Thing) -> NetworkState:
        """Each takes the place of the one with its name. What depends on it must still make sense."""
        changed = {(type(thing), thing.name): thing for thing in things if self.get(type(thing), thing.name) != thing}
        return self._put(changed.values())

    def delete(self, kind: type[Thing], *names: str) -> NetworkState:
        """All of them or none; what is deleted in one call may refer to each other."""
        for name in names:
            self.get(kind, name)
        going = set(names)
        for name in names:
            dependents = [
                f"{other.kind} {other.name} ({where})"
                for other, where in self.dependents(kind, name)
                if not (type(other) is kind and other.name in going)
            ]
            if dependents:
                raise InUse(kind.kind, name, dependents)
        if not going:
            return self
        left = {name: thing for name, thing in self.things[kind].items() if name not in going}
        return self._with({kind: left})

    def dependents(self, kind: type[Thing], name: str) -> tuple[tuple[Thing, str], ...]:
        """Who keeps it from being deleted, and in which field: each once."""
        return self._dependents.get((kind, name), ())

    def _put(self, things: Collection[Thing]) -> NetworkState:
        changed: dict[type[Thing], dict[str, Thing]] = {}
        for thing in things:
            if type(thing) not in changed:
                changed[type(thing)] = dict(self.things[type(thing)])
            changed[type(thing)][thing.name] = thing
        if not changed:
            return self
        after = self._with(changed)
        touched = {(type(thing), thing.name): thing for thing in things}
        for thing in things:  # a new one has no dependents, except among those created with it
            if self.find(type(thing), thing.name) is not None:
                for other, _ in after.dependents(type(thing), thing.name):
                    touched.setdefault((type(other), other.name), other)
        found = [mistake for thing in touched.values() for mistake in self._mistakes(after, thing)]
        if found:
            raise Invalid(dict.fromkeys(found))
        for thing in things:
            over = over_quota(after, thing)
            if over is not None:
                raise QuotaExceeded(*over)
        return after

    def _mistakes(self, after: NetworkState, thing: Thing) -> Iterable[Mistake]:
        """Of `thing` in the state to come, and the references it made anew to what is not there."""
        before = self.find(type(thing), thing.name)
        known = {(r.kind, r.name) for r in references(before) if not r.holds} if before is not None else set[Any]()
        for reference in references(thing):
            if after.find(reference.kind, reference.name) is None and (reference.kind, reference.name) not in known:
                meant = get_close_matches(reference.name, after.things[reference.kind], 1)
                advice = f', did you mean "{meant[0]}"?' if meant else ""
                message = f'no {reference.kind.kind} is named "{reference.name}"{advice}'
                yield Mistake(f"{thing.kind} {thing.name}, {reference.where}", message)
        yield from mistakes(after, thing)

    def _with(self, changed: Mapping[type[Thing], Mapping[str, Thing]]) -> NetworkState:
        read_only = {kind: MappingProxyType(dict(by_name)) for kind, by_name in changed.items()}
        return replace(self, things=MappingProxyType({**self.things, **read_only}), revision=self.revision + 1)

    # What the checks and the way through the network ask again and again, worked out once for each picture.

    @cached_property
    def _dependents(self) -> Mapping[tuple[type[Thing], str], tuple[tuple[Thing, str], ...]]:
        found: dict[tuple[type[Thing], str], dict[tuple[type[Thing], str], tuple[Thing, str]]] = {}
        for by_name in self.things.values():
            for thing in by_name.values():
                for reference in references(thing):
                    if reference.holds and (reference.kind, reference.name) != (type(thing), thing.name):
                        users = found.setdefault((reference.kind, reference.name), {})
                        users.setdefault((type(thing), thing.name), (thing, reference.where))
        return {key: tuple(users.values()) for key, users in found.items()}

    @cached_property
    def subnets_of(self) -> Mapping[str, tuple[Subnet, ...]]:
        return _grouped((subnet.network, subnet) for subnet in self.list(Subnet))

    @cached_property
    def interfaces_in(self) -> Mapping[str, tuple[NetworkInterface, ...]]:
        return _grouped((interface.subnet, interface) for interface in self.list(NetworkInterface))

    @cached_property
    def interface_at(self) -> Mapping[tuple[str, str], tuple[NetworkInterface, ...]]:
        """By network and address; several only while a mistake is being worded."""
        return _grouped(
            ((network, address), interface)
            for interface in self.list(NetworkInterface)
            if (network := self.network_of(interface.subnet)) is not None
            for address in (interface.address, interface.ipv6_address)
            if address is not None
        )

    @cached_property
    def members(self) -> Mapping[str, tuple[NetworkInterface | LoadBalancer, ...]]:
        """Who wears a security group."""
        wearers = (*self.list(NetworkInterface), *self.list(LoadBalancer))
        return _grouped((name, wearer) for wearer in wearers for name in wearer.security_groups)

    @cached_property
    def acls_of(self) -> Mapping[str, tuple[NetworkAcl, ...]]:
        return _grouped((acl.vpc, acl) for acl in self.list(NetworkAcl))

    @cached_property
    def main_table(self) -> Mapping[str, RouteTable]:
        return {table.vpc: table for table in self.list(RouteTable) if table.main}

    @cached_property
    def internet_gateway(self) -> Mapping[str, InternetGateway]:
        return {gateway.vpc: gateway for gateway in self.list(InternetGateway)}

    @cached_property
    def peerings_of(self) -> Mapping[str, tuple[Peering, ...]]:
        return _grouped(
            (end, peering) for peering in self.list(Peering) for end in (peering.requester, peering.accepter)
        )

    @cached_property
    def peer_blocks(self) -> dict[str, tuple[Block, ...]]:
        """What the peers of rules stand for, filled in as rules are read."""
        return {}

    def network_of(self, subnet: str) -> str | None:
        found = self.find(Subnet, subnet)
        return found.network if found is not None and found.network in self.things[VirtualNetwork] else None

    def acl_of(self, subnet: Subnet) -> NetworkAcl | None:
        """The one that names it, else the one of its network that names none; None is AWS's default: all may pass."""
        acls = self.acls_of.get(subnet.network, ())
        named = (acl for acl in acls if acl.subnets is not None and subnet.name in acl.subnets)
        return next(named, next((acl for acl in acls if acl.subnets is None), None))


K = TypeVar("K")
V = TypeVar("V")


def _grouped(pairs: Iterable[tuple[K, V]]) -> Mapping[K, tuple[V, ...]]:
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in groups.items()}


def _differences(one: Thing, other: Thing) -> list[str]:
    named = (each.name for each in fields(cast("Any", one)))
    return [name for name in named if getattr(one, name) != getattr(other, name)]
