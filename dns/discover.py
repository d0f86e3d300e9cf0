"""DiscoverInstances: the instances of a service that somebody asks for by health and attributes, in Cloud Map's words.

Query parameters must all match. Among what they leave, health decides; among what that leaves, optional parameters
narrow the result, unless nothing would be left of it. So somebody's wish for a near instance never gets him an
unhealthy one while others are healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .instances import Instance
from .specs import InstanceSpec

HealthFilter = Literal["HEALTHY", "UNHEALTHY", "ALL", "HEALTHY_OR_ELSE_ALL"]
Parameters = tuple[tuple[str, str], ...]
Sample = Callable[[Sequence[Instance], int], list[Instance]]  # so many of them, in an order of chance

DEFAULT_RESULTS: Final = 100  # Cloud Map's
MOST_RESULTS: Final = 1000  # Cloud Map's


@dataclass(frozen=True, slots=True)
class Query:
    parameters: Parameters = ()
    optional: Parameters = ()
    health: HealthFilter = "HEALTHY_OR_ELSE_ALL"
    max_results: int = DEFAULT_RESULTS


EVERYBODY: Final = Query()


def discover(instances: Iterable[Instance], query: Query, sample: Sample) -> list[Instance]:
    """At most `max_results`, in an order of chance, so that those who take the first spread over all."""
    found = [each for each in instances if _matches(each.spec, query.parameters)]
    found = _by_health(found, query.health)
    if query.optional:
        found = [each for each in found if _matches(each.spec, query.optional)] or found
    return sample(found, min(query.max_results, len(found)))


def _by_health(instances: list[Instance], wanted: HealthFilter) -> list[Instance]:
    if wanted == "ALL":
        return instances
    if wanted == "UNHEALTHY":
        return [each for each in instances if not each.healthy]
    healthy = [each for each in instances if each.healthy]
    return healthy if healthy or wanted == "HEALTHY" else instances


def _matches(spec: InstanceSpec, parameters: Parameters) -> bool:
    if not parameters:
        return True
    attributes = {"zone": spec.zone, "region": spec.region, "location": spec.location, **dict(spec.attributes)}
    return all(attributes.get(key) == value for key, value in parameters)
