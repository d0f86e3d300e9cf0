"""The contract of every balancer: built once for a set of candidates, then asked for one of them again and again.

When the set or a weight changes, its owner builds a new balancer. So a pick has nothing to check, and what a health
flip must not do, favour whoever stands first, is solved once, in the constructors, by starting at random.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What a balancer may know of a target."""

    @property
    def weight(self) -> int: ...

    @property
    def in_flight(self) -> int:
        """Requests or connections that it was given and has not finished."""
        ...

    @property
    def key(self) -> str:
        """Its name, the same in every process."""
        ...

    @property
    def latency(self) -> float:
        """Seconds that its answers took lately, 0 when nothing is known of it; see ewma.py."""
        ...


class RandomSource(Protocol):
    """`random.Random` is one; pure code is handed it."""

    def random(self) -> float:
        """Uniform, from 0 inclusive to 1 exclusive."""
        ...


CandidateT = TypeVar("CandidateT", bound=Candidate)
PickedT_co = TypeVar("PickedT_co", bound=Candidate, covariant=True)


class Balancer(Protocol[PickedT_co]):
    def pick(self) -> PickedT_co | None:
        """One candidate, None only if there are none."""
        ...


class KeyedBalancer(Balancer[PickedT_co], Protocol[PickedT_co]):
    """One that sends what has the same key the same way. `pick` is for what has none."""

    def pick_for(self, key: bytes) -> PickedT_co | None: ...


def with_weights(candidates: Iterable[CandidateT]) -> tuple[list[CandidateT], list[int]]:
    """The candidates that take part, and their weights beside them. Weight 0 takes no part, unless all have it."""
    everyone = list(candidates)
    weighted = [candidate for candidate in everyone if candidate.weight > 0]
    if not weighted:
        return everyone, [1] * len(everyone)
    return weighted, [candidate.weight for candidate in weighted]
