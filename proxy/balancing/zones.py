"""Own zone first: how much of the work stays in the load balancer's zone, and how much spills over to the others."""

from __future__ import annotations

# A zone that lost up to two targets in seven is thought to carry the rest of its work itself (Envoy's overprovisioning
# factor of 1.4); what is lost beyond that goes to the other zones, by and by.
OVERPROVISIONED = 140


def zone_factors(own_usable: int, own_all: int, others_usable: int) -> tuple[int, int]:
    """By what to multiply the weights inside the own zone and outside, given the sums of those weights.

    Whole numbers, so that shares stay exact: of 100 requests `percent` stay.
    """
    if own_all == 0:
        return 1, 1
    percent = min(100, OVERPROVISIONED * own_usable // own_all)
    if percent == 100 or others_usable == 0:
        return 1, 0
    if percent == 0:
        return 0, 1
    return percent * others_usable, (100 - percent) * own_usable
