"""One file per algorithm, one contract for all; each is pure: given weights, counts and a random source, it picks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..specs import Algorithm
from .base import Balancer, Candidate, CandidateT, KeyedBalancer, RandomSource
from .eligibility import eligible
from .ewma import Ewma
from .least_outstanding import LeastOutstanding
from .maglev import Maglev
from .round_robin import RoundRobin
from .two_choices import PowerOfTwoChoices
from .weighted_random import WeightedRandom

__all__ = ["Balancer", "Candidate", "KeyedBalancer", "Maglev", "RandomSource", "balancer", "eligible"]


def balancer(
    algorithm: Algorithm,
    candidates: Sequence[CandidateT],
    rng: RandomSource,
    members: Mapping[str, int] | None = None,
) -> Balancer[CandidateT]:
    """`members` are names and usual weights of the whole group, those that are no candidates now included."""
    match algorithm:
        case "round_robin":
            return RoundRobin(candidates, rng)
        case "least_outstanding_requests":
            return LeastOutstanding(candidates, rng)
        case "weighted_random":
            return WeightedRandom(candidates, rng)
        case "power_of_two_choices":
            return PowerOfTwoChoices(candidates, rng)
        case "ewma":
            return Ewma(candidates, rng)
        case "consistent_hash":
            return Maglev(candidates, rng, members)
