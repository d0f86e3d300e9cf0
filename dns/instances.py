"""An instance of a service as it is now: what was said of it, its health, and what never changes made ready."""

from __future__ import annotations

from . import records
from .specs import Down, HealthSource, InstanceSpec
from .wire import encode_name


class Instance:
    """There may be a hundred thousand of these."""

    __slots__ = ("healthy", "label", "rdata", "rtype", "spec")

    def __init__(self, spec: InstanceSpec, *, healthy: bool = True) -> None:
        """ValueError in words if its id is no label or its address none."""
        self.spec = spec
        self.label = encode_name(spec.id).lower()[:-1]  # in wire form, without the root
        self.rtype, self.rdata = records.address(spec.ip)
        self.healthy = healthy


def is_up(spec: InstanceSpec, health: HealthSource) -> bool:
    """Who has no health key is always healthy, and who is down is down."""
    key = spec.health_key
    return key is None or (not isinstance(key, Down) and health.is_healthy(key))
