"""DNS services whose instances are the targets of a group that names some: they follow what the names resolve to.

Pure. The configuration says which services those are; what they answer is settled anew with each change of addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..dns.specs import DnsSpec
from ..proxy.targets import resolved
from .config.compile import default_records, instances_of
from .config.settings import Settings


def dns_at(settings: Settings, addresses: Mapping[str, tuple[str, ...]]) -> DnsSpec:
    """The DNS plane's specification where the names of targets have these addresses."""
    if not settings.named_services:
        return settings.dns
    groups = {group.name: group for group in settings.proxy.target_groups}
    namespaces = list(settings.dns.namespaces)
    for named in settings.named_services:
        services = list(namespaces[named.namespace].services)
        instances = tuple(instances_of(resolved(groups[named.target_group], addresses)))
        service = replace(services[named.service], instances=instances)
        if named.default_ttl is not None:
            service = replace(service, records=default_records(instances, named.default_ttl))
        services[named.service] = service
        namespaces[named.namespace] = replace(namespaces[named.namespace], services=tuple(services))
    return replace(settings.dns, namespaces=tuple(namespaces))
