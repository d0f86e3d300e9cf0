"""Two candidates drawn at random, and the one that would answer sooner: what it took lately, times the queue before it.

The peak-sensitive moving average of Finagle and Linkerd: a slow answer counts at once and is forgiven over time, a fast
one counts by as much as the time since the last. What was not observed for a while fades (`faded`), so a target that
was slow is tried again.
"""

from __future__ import annotations

from math import exp

from .base import CandidateT
from .two_choices import PowerOfTwoChoices

MEMORY = 10.0  # seconds in which what was observed fades to a third (Finagle's decay time, ingress-nginx's too)

# A target that fails at once must not look fast and draw everything to itself, so a failure counts as this long.
FAILURE = 1.0


class Ewma(PowerOfTwoChoices[CandidateT]):
    __slots__ = ()

    def _cost(self, candidate: CandidateT) -> float:
        waiting = candidate.in_flight
        if candidate.latency == 0.0 and waiting:
            return FAILURE + waiting  # new, and asked already: its first answer says how it is (as in Finagle)
        return candidate.latency * (waiting + 1)


def observed(latency: float, seconds: float, elapsed: float) -> float:
    """The average after an answer that took `seconds`, `elapsed` seconds after the one before it."""
    if seconds >= latency:
        return seconds
    kept = exp(-elapsed / MEMORY)
    return latency * kept + seconds * (1 - kept)


def faded(latency: float, elapsed: float) -> float:
    """The average after `elapsed` seconds without an answer."""
    return latency * exp(-elapsed / MEMORY)
