"""Who has registered beside what the configuration lists, when he was heard of last, and what an operator has said.

It decides what DNS is told of each instance, and when; `now` is a parameter. The operator's word goes before all else;
then an instance is as healthy as its checks say, and not at all once its heartbeat is late. Silence ends in two steps:
unhealthy when the TTL is over, deregistered when `deregister_after` is too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Final, NamedTuple

from .specs import DnsSpec, Down, InstanceSpec, NamespaceSpec, ServiceSpec

PER_SERVICE: Final = 10_000  # Cloud Map has 1,000; what a change costs grows with the instances of its service
IN_ALL: Final = 100_000  # some 200 MiB in each process
DEREGISTER_AFTER: Final = 60.0  # seconds; the least that Consul allows


class Key(NamedTuple):
    """Names in lower case, of the namespace its first."""

    namespace: str
    service: str
    id: str

    @classmethod
    def of(cls, namespace: str, service: str, instance_id: str) -> Key:
        return cls(namespace.lower(), service.lower(), instance_id.lower())


ServiceKey = tuple[str, str]
Entries = dict[Key, InstanceSpec]
# Services that take registrations, with what makes their instances' health keys; None: nobody is checked.
Takers = Mapping[ServiceKey, Callable[[InstanceSpec], Hashable] | None]

# Why somebody is unhealthy whom no check has found to be.
SAID: Final = "the operator says so"
LATE: Final = "its heartbeat is late"


class Full(ValueError):
    """There is no room for another one. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`ttl` seconds without one are too many; so many more and the instance is gone."""

    ttl: float
    deregister_after: float = DEREGISTER_AFTER


@dataclass(slots=True)
class Registered:
    spec: InstanceSpec
    heartbeat: Heartbeat | None
    deadline: float = 0.0
    late: bool = False


class Registrations:
    __slots__ = ("_due", "_in_service", "_scheduled", "all", "in_all", "per_service", "takers", "words")

    def __init__(self, per_service: int = PER_SERVICE, in_all: int = IN_ALL) -> None:
        self.per_service = per_service
        self.in_all = in_all
        self.takers: Takers = {}
        self.all: dict[Key, Registered] = {}
        self.words: dict[Key, bool] = {}  # the operator's, of listed instances too: healthy or not, whatever is found
        self._in_service = Counter[tuple[str, str]]()
        self._due: list[tuple[float, Key]] = []
        self._scheduled: dict[Key, float] = {}  # when `_due` has it; what stands there beside is out of date

    def check_room(self, key: Key) -> None:
        """Full if another one is one too many."""
        if key in self.all:
            return
        if len(self.all) >= self.in_all:
            raise Full(f"{self.in_all} instances are registered, there is no room for more")
        if self._in_service[key[:2]] >= self.per_service:
            raise Full(f"service {key.service} has {self.per_service} registered instances, there is no room for more")

    def register(self, key: Key, spec: InstanceSpec, heartbeat: Heartbeat | None, now: float) -> None:
        """It comes, or takes the place of the one with its id. To register is to be heard of."""
        if key not in self.all:
            self._in_service[key[:2]] += 1
        self.all[key] = Registered(spec, heartbeat)
        self.beat(key, now)

    def deregister(self, key: Key) -> None:
        del self.all[key]
        self.words.pop(key, None)
        self._in_service[key[:2]] -= 1
        if not self._in_service[key[:2]]:
            del self._in_service[key[:2]]

    def beat(self, key: Key, now: float) -> bool:
        """It was heard of. Says whether it was late."""
        found = self.all[key]
        was_late, found.late = found.late, False
        if found.heartbeat is not None:
            found.deadline = now + found.heartbeat.ttl
            self._schedule(key, found.deadline)
        return was_late

    def say(self, key: Key, word: bool | None) -> None:
        """The operator's word; None takes it back."""
        if word is None:
            self.words.pop(key, None)
        else:
            self.words[key] = word

    def frozen(self) -> Registrations:
        """As it is now, for another thread to read at leisure."""
        copy = Registrations(self.per_service, self.in_all)
        copy.all, copy.words, copy._in_service = self.all.copy(), self.words.copy(), self._in_service.copy()
        return copy

    def next_due(self) -> float | None:
        """When to call `overdue` next; it may be for nothing."""
        return self._due[0][0] if self._due else None

    def overdue(self, now: float) -> Iterator[tuple[Key, bool]]:
        """Who has become late by now, and who is gone (True)."""
        while self._due and self._due[0][0] <= now:
            at, key = heappop(self._due)
            if self._scheduled.get(key) != at:
                continue
            del self._scheduled[key]
            found = self.all.get(key)
            if found is None or found.heartbeat is None:
                continue
            end = found.deadline + (found.heartbeat.deregister_after if found.late else 0.0)
            if end > now:
                self._schedule(key, end)
            elif found.late:
                self.deregister(key)
                yield key, True
            else:
                found.late = True
                self._schedule(key, found.deadline + found.heartbeat.deregister_after)
                yield key, False

    def told(self, key: Key, listed: InstanceSpec | None = None) -> InstanceSpec | None:
        """What DNS is to know of an instance that is registered, or else `listed`. None: nothing."""
        found = self.all.get(key)
        return self.by_word(key, listed) if found is None and listed is not None else self._told(key, self.takers)

    def by_word(self, key: Key, spec: InstanceSpec) -> InstanceSpec:
        """An instance with the health that the operator says it has, if he says something."""
        word = self.words.get(key)
        return spec if word is None else replace(spec, health_key=None if word else Down(SAID, *key))

    def checked(self, key: Key, spec: InstanceSpec, takers: Takers) -> InstanceSpec:
        """An instance that is heard of, with the health that its service's checks find."""
        key_of = takers[key[:2]]
        return self.by_word(key, spec if key_of is None else replace(spec, health_key=key_of(spec)))

    def _told(self, key: Key, takers: Takers) -> InstanceSpec | None:
        found = self.all.get(key)
        if found is None:
            return None
        if found.late and key not in self.words:
            return replace(found.spec, health_key=Down(LATE, *key))
        return self.checked(key, found.spec, takers)

    def entries(self, spec: DnsSpec, takers: Takers) -> Entries:
        """What is to differ from a configuration: instances beside the listed ones, and listed ones with a word.

        What is listed goes before what has registered as the same.
        """
        listed = self._listed(spec, takers)
        found = Entries()
        for key in self.all:
            told = self._told(key, takers) if key[:2] in listed and key.id not in listed[key[:2]] else None
            if told is not None:
                found[key] = told
        for key in self.words:
            base = listed.get(key[:2], {}).get(key.id)
            if base is not None:
                found[key] = self.by_word(key, base)
        return found

    def settle(self, spec: DnsSpec, takers: Takers) -> list[Key]:
        """This configuration is in force: drop what has no place in it, or is listed. Returns who was dropped."""
        self.takers = takers
        listed = self._listed(spec, takers)
        dropped = [key for key in self.all if key[:2] not in listed or key.id in listed[key[:2]]]
        for key in dropped:
            self.deregister(key)
        for key in [key for key in self.words if key not in self.all and key.id not in listed.get(key[:2], ())]:
            del self.words[key]
        return dropped

    def _listed(self, spec: DnsSpec, takers: Takers) -> dict[ServiceKey, dict[str, InstanceSpec]]:
        """Of the services that matter here; there may be many others."""
        wanted = {*self._in_service, *(key[:2] for key in self.words)}
        return {
            place: {instance.id.lower(): instance for instance in service.instances}
            for place, service in _services(spec)
            if place in wanted and place in takers
        }

    def _schedule(self, key: Key, at: float) -> None:
        if at < self._scheduled.get(key, float("inf")):
            self._scheduled[key] = at
            heappush(self._due, (at, key))


def with_entries(spec: DnsSpec, entries: Mapping[Key, InstanceSpec]) -> DnsSpec:
    """A configuration, and beside it what has registered. Entries that have no place in it are left out."""
    if not entries:
        return spec
    by_service: dict[ServiceKey, dict[str, InstanceSpec]] = {}
    for key, instance in entries.items():
        by_service.setdefault(key[:2], {})[key.id] = instance

    def joined(namespace: NamespaceSpec, service: ServiceSpec) -> ServiceSpec:
        more = by_service.get((namespace.names[0].lower(), service.name.lower()))
        if more is None:
            return service
        instances = {instance.id.lower(): instance for instance in service.instances} | more
        return replace(service, instances=tuple(instances.values()))

    namespaces = tuple(
        replace(namespace, services=tuple([joined(namespace, service) for service in namespace.services]))
        for namespace in spec.namespaces
    )
    return replace(spec, namespaces=namespaces)


def _services(spec: DnsSpec) -> Iterator[tuple[ServiceKey, ServiceSpec]]:
    for namespace in spec.namespaces:
        for service in namespace.services:
            yield (namespace.names[0].lower(), service.name.lower()), service
