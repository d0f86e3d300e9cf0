"""The one truth about which targets work. Probes report here; target groups and DNS read the same view.

This module counts results against thresholds and publishes a new immutable view when a record changes. It neither
probes nor decides what follows: that all targets are used when none is healthy is the rule of whoever reads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from .specs import HealthCheckSpec

State = Literal["initial", "healthy", "unhealthy"]

# ALB's reason codes, for API clients that know them; the description beside one is for people.
INITIAL = "Elb.InitialHealthChecking"
INTERNAL_ERROR = "Elb.InternalError"
FAILED = "Target.FailedHealthChecks"
MISMATCH = "Target.ResponseCodeMismatch"
TIMEOUT = "Target.Timeout"

EJECTED = "Target.Ejected"  # ours: ALB has no passive ejection that it tells of here


@dataclass(frozen=True, slots=True)
class CheckKey:
    """One address and how it is checked, however many target groups and services ask. `port` is the one probed.

    A port in the check itself says no more than `port` does and is dropped, so that a group which spells its
    targets' own port out and one which leaves it out share a probe.
    """

    ip: str
    port: int
    check: HealthCheckSpec
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.check.port is not None:
            object.__setattr__(self, "check", replace(self.check, port=None))
        # A key is looked up far more often than it is made, and hashing its check costs more than the look-up.
        object.__setattr__(self, "_hash", hash((self.ip, self.port, self.check)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[CheckKey], tuple[str, int, HealthCheckSpec]]:
        """Made anew where it is unpickled: another process hashes text in another way."""
        return CheckKey, (self.ip, self.port, self.check)

    @classmethod
    def of(cls, ip: str, port: int, check: HealthCheckSpec) -> CheckKey:
        """The key of a target at `ip` and `port`: the check's own port goes before the target's."""
        return cls(ip, port if check.port is None else check.port, check)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """`consecutive` results in a row speak against `state`: 0 is settled, the threshold is a flip."""

    state: State
    reason: str  # ALB's code; empty when healthy
    description: str  # a sentence; empty when healthy
    since: float  # the clock's time at the last flip, or when checking began
    consecutive: int = 0

    @property
    def changing(self) -> bool:
        return self.state == "initial" or self.consecutive > 0


Subscriber = Callable[[frozenset[CheckKey]], object]


class HealthTable:
    """One record per key that is tracked. `view` is replaced, never changed, so who holds one may trust it."""

    __slots__ = ("_records", "_subscribers", "view")

    def __init__(self) -> None:
        self._records: dict[CheckKey, TargetHealth] = {}
        self.view: Mapping[CheckKey, TargetHealth] = MappingProxyType(self._records)
        self._subscribers: list[Subscriber] = []

    def is_healthy(self, key: Hashable, /) -> bool:
        """False for initial too, and for what is not tracked: only a check that passed makes healthy."""
        record = self.view.get(key)  # pyright: ignore[reportArgumentType] - any hashable may be asked for
        return record is not None and record.state == "healthy"

    def track(self, keys: Iterable[CheckKey], now: float) -> None:
        """Begin with `keys`. One that is tracked already keeps its record: a reload changes nobody's health."""
        initial = TargetHealth("initial", INITIAL, "Initial health checks in progress.", now)
        self._publish({**dict.fromkeys(keys, initial), **self._records})

    def retain(self, keys: Iterable[CheckKey]) -> None:
        """Forget every key that is not among `keys`."""
        kept = frozenset(keys)
        self._publish({key: record for key, record in self._records.items() if key in kept})

    def _publish(self, records: dict[CheckKey, TargetHealth]) -> None:
        self._records = records
        self.view = MappingProxyType(records)

    def observe(self, key: CheckKey, ok: bool, reason: str, description: str, now: float) -> bool:
        """Count one finished probe; True if the state flipped. A probe that was cut short is not to be reported.

        As on ALB a new target is healthy after one pass, whatever the threshold, and unhealthy after as many failures
        as any other. Results of a key no longer tracked are those of a probe that was under way when it left.
        """
        record = self.view.get(key)
        if record is None:
            return False
        after = _next(key.check, record, ok, reason, description, now)
        if after != record:
            records = self._records.copy()  # which keeps the hashes: a table of thousands is copied in microseconds
            records[key] = after
            self._publish(records)
        if after.state == record.state:
            return False
        self._tell(frozenset((key,)))
        return True

    def _tell(self, changed: frozenset[CheckKey]) -> None:
        for subscriber in tuple(self._subscribers):  # one may leave while being told
            subscriber(changed)

    def adopt(self, records: Mapping[CheckKey, TargetHealth], *, whole: bool) -> None:
        """Take over what another table found; with `whole`, forget what it does not have.

        For a process that probes nothing itself. Subscribers are told as if the flips had happened here.
        """
        before = self._records
        self._publish(dict(records) if whole else {**before, **records})
        changed = frozenset(
            key for key, record in records.items() if (known := before.get(key)) is None or known.state != record.state
        )
        if changed:
            self._tell(changed)

    def subscribe(self, subscriber: Subscriber) -> None:
        """`subscriber(keys)` is called after every flip, when `view` has it already. Not for track and retain."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        self._subscribers.remove(subscriber)


def _next(
    check: HealthCheckSpec, record: TargetHealth, ok: bool, reason: str, description: str, now: float
) -> TargetHealth:
    if ok:
        if record.state == "healthy":
            return replace(record, consecutive=0)
        if record.state == "initial" or record.consecutive + 1 >= check.healthy_threshold:
            return TargetHealth("healthy", "", "", now)
        return replace(record, consecutive=record.consecutive + 1)
    if record.state == "unhealthy":
        return replace(record, reason=reason, description=description, consecutive=0)
    if record.consecutive + 1 >= check.unhealthy_threshold:
        return TargetHealth("unhealthy", reason, description, now)
    return replace(record, consecutive=record.consecutive + 1)
