"""Who may be answered at all: Route 53's rules about health and weight 0, which every policy obeys.

No health check means healthy; when nobody is healthy everybody is answered (fail open), because a wrong health check
must not take a service off the net; weight 0 is standby, answered only when no healthy instance has a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..specs import InstanceSpec


def eligible(instances: Sequence[InstanceSpec], is_healthy: Callable[[InstanceSpec], bool]) -> tuple[InstanceSpec, ...]:
    healthy = [instance for instance in instances if is_healthy(instance)]
    if not healthy:
        return tuple(instances)
    return tuple([instance for instance in healthy if instance.weight] or healthy)
