"""Geolocation: the instances whose location fits the client's best, as in Route 53.

A location is a path from the large to the small, `eu/de/by`. The longest one that the client is in wins; instances
without a location are the default, for clients that nobody else is there for. Without a default those get nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..instances import Instance


def fitting(instances: Sequence[Instance], location: str) -> list[Instance]:
    while True:
        found = [each for each in instances if each.spec.location == location]
        if found or not location:
            return found
        location = location.rpartition("/")[0]
