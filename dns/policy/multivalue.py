"""Multivalue answers: up to eight instances, each equally often first.

The order of the instances is the configuration's and stays; only where the answer begins moves on. So pools that are
fed from these answers (HAProxy, gRPC) see a window sliding over a stable list instead of random subsets.
"""

from __future__ import annotations

from .order import Order

ANSWER_LIMIT = 8  # Route 53's and Cloud Map's


def order(count: int, limit: int | None = None) -> Order:
    size = min(count, limit or ANSWER_LIMIT)

    def answer(first: int) -> list[int]:
        return [(first + step) % count for step in range(size)]

    return Order(range(count), answer, size)
