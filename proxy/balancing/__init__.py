"""One file per algorithm, one contract for all; each is pure: given weights, counts and a random source, it picks."""

from __future__ import annotations

from collections.abc import Sequence

from ..specs import Algorithm
from .base import Balancer, Candidate, CandidateT, RandomSource
from .eligibility import eligible
from .least_outstanding import LeastOutstanding
from .round_robin import RoundRobin
from .weighted_random import WeightedRandom

__all__ = ["Balancer", "Candidate", "RandomSource", "balancer", "eligible"]


def balancer(algorithm: Algorithm, candidates: Sequence[CandidateT], rng: RandomSource) -> Balancer[CandidateT]:
    match algorithm:
        case "round_robin":
            return RoundRobin(candidates, rng)
        case "least_outstanding_requests":
            return LeastOutstanding(candidates, rng)
        case "weighted_random":
            return WeightedRandom(candidates, rng)
