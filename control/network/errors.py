"""What can be wrong with a request to change the network, as types: callers branch on the class, people read the words.

Every refusal says what happened, which thing it was about, and what to do. A `Mistake` is one sentence about one field;
`Invalid` carries all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mistake:
    """`where` reads like the YAML it would stand in: "security group web-sg, ingress_rules[0].port_range"."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class NetworkError(Exception):
    """Everything below; one except clause for those who only pass the sentence on."""


class Invalid(NetworkError):
    """What was asked for makes no sense, in as many ways as there are mistakes."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


class NotFound(NetworkError):
    def __init__(self, kind: str, name: str, meant: str | None = None) -> None:
        self.kind, self.name = kind, name
        super().__init__(f'no {kind} is named "{name}"' + (f', did you mean "{meant}"?' if meant else ""))


class Conflict(NetworkError):
    """Created twice, and not alike. Equal input is no conflict: it changes nothing."""

    def __init__(self, kind: str, name: str, fields: Iterable[str]) -> None:
        self.kind, self.name, self.fields = kind, name, tuple(fields)
        super().__init__(f"{kind} {name} exists with other {', '.join(self.fields)}: update it, or choose another name")


class InUse(NetworkError):
    """A delete that would leave others pointing at nothing. `dependents` are those others, all of them."""

    def __init__(self, kind: str, name: str, dependents: Iterable[str]) -> None:
        self.kind, self.name, self.dependents = kind, name, tuple(dependents)
        super().__init__(f"{kind} {name} is in use by {', '.join(self.dependents)}: change or delete these first")


class QuotaExceeded(NetworkError):
    def __init__(self, quota: str, limit: int, used: int, owner: str) -> None:
        self.quota, self.limit, self.used, self.owner = quota, limit, used, owner
        super().__init__(f"{owner} would have {used} where {quota} is {limit}: delete some, or raise quotas.{quota}")


class AddressError(NetworkError):
    """An address that cannot be given, kept or returned."""


class AddressesExhausted(AddressError):
    """Nothing free that is large enough; the counts say why, `largest_free_prefix` what still fits."""

    def __init__(self, message: str, *, free: int, quarantined: int, largest_free_prefix: int | None) -> None:
        self.free, self.quarantined, self.largest_free_prefix = free, quarantined, largest_free_prefix
        super().__init__(message)
