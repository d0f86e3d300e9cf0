"""Multivalue answers: up to eight instances, each equally often first.

The order of the instances is the configuration's and stays; only where the answer begins moves on. So pools that are
fed from these answers (HAProxy, gRPC) see a window sliding over a stable list instead of random subsets.
"""

from __future__ import annotations

ANSWER_LIMIT = 8  # Route 53's and Cloud Map's


def turns(count: int, limit: int = ANSWER_LIMIT) -> list[tuple[int, ...]]:
    """For each place of the ring, the instances by index in the order to answer them."""
    return [tuple((first + step) % count for step in range(min(count, limit))) for first in range(count)]
