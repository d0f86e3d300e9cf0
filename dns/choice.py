"""Which of a service's instances are answered to whom: health, weight 0, the routing policy, and nearness, in turn.

There is one such function. Answers are made by it, and `explain` repeats it step by step to say who was left out where.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from .instances import Instance
from .policy import failover, geolocation, latency, multivalue, weighted, zone_affinity
from .policy.eligible import eligible, without_standby
from .policy.order import Order
from .specs import ServiceSpec


class Vantage(NamedTuple):
    """Where a client is, as far as anybody has said."""

    zone: str = ""
    region: str = ""
    location: str = ""


ANYWHERE = Vantage()


def seen_by(service: ServiceSpec, vantage: Vantage) -> Vantage:
    """As much of where the client is as makes a difference here: whoever is alike in that shares one ring."""
    return Vantage(
        vantage.zone if service.zone_affinity else "",
        vantage.region if service.zone_affinity or service.policy == "latency" else "",
        vantage.location if service.policy == "geolocation" else "",
    )


def steps(
    service: ServiceSpec,
    instances: Sequence[Instance],
    vantage: Vantage,
    latencies: latency.Latencies,
    last_healthy: Collection[str] = (),
) -> Iterator[tuple[str, list[Instance]]]:
    """Who is left after each step, with what is said of those who are not. The last step's are answered."""
    left = eligible(instances, service.all_unhealthy, last_healthy)
    yield "unhealthy", left
    left = without_standby(left)
    yield "standby, weight 0", left
    why, left = _by_policy(service, left, vantage, latencies)
    yield why, left
    if service.zone_affinity:
        _, meant = _by_policy(service, instances, vantage, latencies)
        where, left = zone_affinity.near(left, meant, vantage.zone, vantage.region)
        yield f"in another {where}", left


def _by_policy(
    service: ServiceSpec, instances: Sequence[Instance], vantage: Vantage, latencies: latency.Latencies
) -> tuple[str, list[Instance]]:
    """Whom the policy picks, and what is said of the others."""
    if service.policy == "failover":
        return "secondary, and a primary is there", failover.preferred(instances)
    if service.policy == "latency":
        return "in a farther region", latency.nearest(instances, vantage.region, latencies)
    if service.policy == "geolocation":
        return "for another location", geolocation.fitting(instances, vantage.location)
    return "", list(instances)


def order_of(service: ServiceSpec, weights: Sequence[int], fitting: int | None = None) -> Order:
    """Shares by weight, except for multivalue, which knows none. An answer has `fitting` of them at most."""
    most = service.max_answers
    if most is not None and fitting is not None:
        most = min(most, fitting)
    if service.policy == "multivalue":
        return multivalue.order(len(weights), most)
    return weighted.order(weights, most)
