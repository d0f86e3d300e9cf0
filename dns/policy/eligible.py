"""Who may be answered at all: Route 53's rules about health and weight 0, which every policy obeys.

No health check means healthy. When nobody is, a service says what then: everybody (fail open, the default, because a
wrong health check must not take a service off the net), nobody, or those who were healthy last. Weight 0 is standby,
answered only when no healthy instance has a weight.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..instances import Instance
from ..specs import AllUnhealthy


def eligible(
    instances: Sequence[Instance], all_unhealthy: AllUnhealthy = "fail_open", last_healthy: Collection[str] = ()
) -> list[Instance]:
    """`last_healthy` are ids; where none is known that choice fails open."""
    healthy = [instance for instance in instances if instance.healthy]
    if healthy:
        return healthy
    if all_unhealthy == "fail_closed":
        return []
    return [each for each in instances if each.spec.id in last_healthy] or list(instances)


def without_standby(instances: Sequence[Instance]) -> list[Instance]:
    """Of those who are eligible. Where none of them is healthy everybody has to help, standbys too."""
    if not any(instance.healthy for instance in instances):
        return list(instances)
    return [instance for instance in instances if instance.spec.weight] or list(instances)
