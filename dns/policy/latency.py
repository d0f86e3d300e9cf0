"""Latency routing: the instances of the region that is nearest to the client's, by a table of latencies.

The table is given; who measures it is not this module's business. Inside a region the latency is 0 unless the table
says otherwise. What it does not say is farther than all it says, and where it says nothing everybody is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from ..instances import Instance

Latencies = Mapping[tuple[str, str], float]


def table(rows: Iterable[tuple[str, str, float]]) -> Latencies:
    """A row holds both ways, unless the other way has a row of its own."""
    there = {(start, end): seconds for start, end, seconds in rows}
    return {(end, start): seconds for (start, end), seconds in there.items()} | there


def nearest(instances: Sequence[Instance], region: str, latencies: Latencies) -> list[Instance]:
    regions = {each.spec.region for each in instances}
    distances = {each: latencies.get((region, each), 0.0 if each == region else inf) for each in regions}
    least = min(distances.values(), default=inf)
    if not region or least == inf:
        return list(instances)
    return [each for each in instances if distances[each.spec.region] == least]
