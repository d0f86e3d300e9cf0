"""The counters of several processes, taken, sent and added up.

The objects that count have numbers, lists of numbers and mappings to numbers in their slots, and nothing else; so a
counter that is new there is summed here without a word. What a process counted before it died stays in the sum, for a
counter that goes back is to Prometheus a restart of everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..dns.top_names import TopNames

if TYPE_CHECKING:
    from ..proxy.server import Proxy

Values = dict[str, Any]  # by slot
TargetId = tuple[str, str, bool]  # target group, target, whether it drains
T = TypeVar("T")

TOP_NAMES_TOLD = 200  # by each process, for they are told whenever somebody looks; /status shows 20

# Counts of what is there now. They end with the process; all others only ever grow.
GAUGES = frozenset({"active", "tcp_active", "in_flight"})


@dataclass(slots=True)
class Snapshot:
    """All that one process has counted."""

    listeners: dict[str, Values] = field(default_factory=dict)
    targets: dict[TargetId, Values] = field(default_factory=dict)
    dns: Values = field(default_factory=dict)
    cpu_seconds: float = 0.0
    resident_bytes: int = 0
    out_of_descriptors: int = 0  # 1, and in sum how many of them are
    top_names: TopNames | None = None

    def add(self, other: Snapshot) -> None:
        for listener, values in other.listeners.items():
            add(self.listeners.setdefault(listener, {}), values)
        for target, values in other.targets.items():
            add(self.targets.setdefault(target, {}), values)
        add(self.dns, other.dns)
        if other.top_names is not None:
            self.top_names = self.top_names or TopNames(TOP_NAMES_TOLD)
            self.top_names.add(other.top_names)
        self.cpu_seconds += other.cpu_seconds
        self.resident_bytes += other.resident_bytes
        self.out_of_descriptors += other.out_of_descriptors

    def without_gauges(self) -> Snapshot:
        """What is left of a process that has ended."""
        return Snapshot(
            {key: _grown(values) for key, values in self.listeners.items()},
            {key: _grown(values) for key, values in self.targets.items()},
            _grown(self.dns),
            self.cpu_seconds,
        )


def snapshot(proxy: Proxy, dns_counters: object, top_names: TopNames | None = None) -> Snapshot:
    targets: dict[TargetId, Values] = {}
    for group in proxy.groups.values():
        for target in group.targets:
            values = values_of(target.counters) | {"in_flight": target.in_flight}
            add(targets.setdefault((group.name, target.key, target.draining), {}), values)
    listeners = {key: values_of(listener.counters) for key, listener in proxy.listeners.items()}
    told = top_names.head(TOP_NAMES_TOLD) if top_names is not None else None
    return Snapshot(listeners, targets, values_of(dns_counters), top_names=told)


def show(total: Snapshot, proxy: Proxy) -> None:
    """Have the listeners and targets of a proxy that serves nobody itself say what all the others counted.

    What `total` has of listeners and targets that are not there any more is dropped from it, as they drop it.
    """
    for key, listener in proxy.listeners.items():
        listener.counters = filled(type(listener.counters), total.listeners.get(key, {}))
    there: set[TargetId] = set()
    for group in proxy.groups.values():
        for target in group.targets:
            identity = (group.name, target.key, target.draining)
            values = dict({} if identity in there else total.targets.get(identity, {}))
            there.add(identity)
            target.in_flight = values.pop("in_flight", 0)
            target.counters = filled(type(target.counters), values)


def values_of(counters: object) -> Values:
    """A copy of what stands in its slots."""
    slots: Iterable[str] = type(counters).__slots__  # type: ignore[attr-defined]
    return {slot: _copy(getattr(counters, slot)) for slot in slots}


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, list) else value


def add(into: Values, values: Mapping[str, Any]) -> None:
    for slot, value in values.items():
        present = into.get(slot)
        if present is None:
            into[slot] = _copy(value)
        elif isinstance(value, Mapping):
            for key, count in value.items():
                present[key] = present.get(key, 0) + count
        elif isinstance(value, list):
            into[slot] = [one + other for one, other in zip(present, value, strict=True)]
        else:
            into[slot] = present + value


def filled(kind: type[T], values: Values) -> T:
    """A new object of counters that has counted this much."""
    counters = kind()
    for slot, value in values.items():
        if isinstance(value, Mapping):
            getattr(counters, slot).update(value)
        else:
            setattr(counters, slot, value)
    return counters


def _grown(values: Values) -> Values:
    return {slot: value for slot, value in values.items() if slot not in GAUGES}
