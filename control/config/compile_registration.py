"""From the configuration to who may register instances, of which services, and how many."""

from __future__ import annotations

from collections.abc import Callable

from ...proxy.specs import HealthCheckSpec, TargetProtocol
from . import models
from .settings import RegistrationSettings, Taker

CheckOf = Callable[[models.HealthCheck, TargetProtocol], HealthCheckSpec]


def registration(discovery: models.ServiceDiscoverySection, check_of: CheckOf) -> RegistrationSettings:
    """Services of a target group take none: who is in it is said there, for the load balancer too."""
    said = discovery.registration
    takers = tuple(
        Taker(namespace.name, service.name, check_of(service.health_check, "HTTP") if service.health_check else None)
        for namespace in discovery.namespaces
        for service in namespace.services
        if service.target_group is None
    )
    return RegistrationSettings(
        takers, said.allow, said.instances, said.instances_per_service, said.long_polls, said.keep
    )
