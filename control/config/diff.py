"""What changed between two configurations, in lines for the log: `target group tg-web: target 10.0.1.11:8080 added`.

Compares what the planes were asked to do, so a comment or a reordered key is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import TypeVar

from ...dns.specs import InstanceSpec, NamespaceSpec, ServiceSpec
from ...proxy.specs import (
    CertificateSpec,
    FilterSpec,
    FirewallSpec,
    GroupLimits,
    ListenerLimits,
    ListenerSpec,
    NamedTargetSpec,
    ProcessLimits,
    RetrySpec,
    TargetGroupSpec,
    TargetSpec,
)
from ..exits import host_port
from .scalars import Endpoint, seconds_as_text
from .settings import Settings

T = TypeVar("T")
Change = Callable[[T, T], Iterable[str]]


def differences(old: Settings, new: Settings) -> list[str]:
    """One line per change, in the order of the configuration. Empty if the two do the same."""
    return [] if old == new else list(_settings(old, new))


def _settings(old: Settings, new: Settings) -> Iterator[str]:
    yield from _each("listener", old.proxy.listeners, new.proxy.listeners, lambda spec: spec.key, _listener)
    yield from _each("target group", old.proxy.target_groups, new.proxy.target_groups, _name, _target_group)
    yield from _group_firewalls(dict(old.proxy.group_firewalls), dict(new.proxy.group_firewalls))
    yield from _each("namespace", old.dns.namespaces, new.dns.namespaces, lambda spec: spec.names[0], _namespace)
    yield from _value("DNS listens at", _endpoints(old.dns.listen), _endpoints(new.dns.listen))
    yield from _each("DNS network", old.dns.networks, new.dns.networks, lambda spec: spec.name, _changed)
    if (old.dns.recursion, old.dns.latencies) != (new.dns.recursion, new.dns.latencies):
        yield "DNS recursion or latencies changed"
    yield from _value("DNS forwards to", _endpoints(old.dns.resolvers), _endpoints(new.dns.resolvers))
    if old.dns.forwarding != new.dns.forwarding:
        yield "how DNS forwards and caches changed"
    if old.dns.transport != new.dns.transport:
        yield "how DNS is asked, and by whom, changed"
    if replace(old.registration, takers=()) != replace(new.registration, takers=()):
        yield "who may register, or how many, changed"
    yield from _value("admin listens at", _endpoints([old.admin]), _endpoints([new.admin]))
    yield from _value("access log", _access_log(old), _access_log(new))
    yield from _value("targets are resolved by", _resolvers(old), _resolvers(new))
    yield from _value("shutdown grace", _grace(old), _grace(new))
    yield from _value("shutdown drain", seconds_as_text(old.drain), seconds_as_text(new.drain))
    yield from (f"process limits: {line}" for line in _numbers(old.proxy.limits, new.proxy.limits))
    spreads = old.proxy.close_spread, new.proxy.close_spread
    yield from _value("shutdown close_spread", *map(seconds_as_text, spreads))
    yield from _value("workers", old.workers, new.workers)
    if old.proxy.sticky_key != new.proxy.sticky_key:
        yield "stickiness key " + ("changed" if old.proxy.sticky_key and new.proxy.sticky_key else "added or removed")
    yield from _value("state directory", str(old.state_directory), str(new.state_directory))


def _each(
    kind: str, old: Iterable[T], new: Iterable[T], key: Callable[[T], object], change: Change[T]
) -> Iterator[str]:
    """What was added, what is different inside and how, what was removed."""
    before = {key(spec): spec for spec in old}
    after = {key(spec): spec for spec in new}
    for name, spec in after.items():
        if name not in before:
            yield f"{kind} {name} added"
        elif spec != before[name]:
            # Nothing found inside: the same things stand there in another order.
            yield from (f"{kind} {name}{line}" for line in list(change(before[name], spec)) or [" reordered"])
    yield from (f"{kind} {name} removed" for name in before if name not in after)


def _value(what: str, old: object, new: object) -> Iterator[str]:
    if old != new:
        yield f"{what} {new}, was {old}"


def _inside(lines: Iterable[str]) -> Iterator[str]:
    return (f": {line}" for line in lines)


def _changed(_old: object, _new: object) -> tuple[str]:
    return (" changed",)


def _name(spec: TargetGroupSpec | ServiceSpec | CertificateSpec) -> str:
    return spec.name


def _listener(old: ListenerSpec, new: ListenerSpec) -> Iterator[str]:
    def lines() -> Iterator[str]:
        yield from _value("load balancer", old.load_balancer, new.load_balancer)
        yield from _value("protocol", old.protocol, new.protocol)
        yield from _value("ssl_policy", old.ssl_policy, new.ssl_policy)
        asked = old.client_certificates, new.client_certificates
        yield from _value("client certificates", *(each.mode if each else "off" for each in asked))
        if len({each.authorities_pem for each in asked if each}) > 1:
            yield "authorities of client certificates changed"
        if len({each.revocations_pem for each in asked if each}) > 1:
            yield "revoked client certificates changed"
        yield from _value("http2", old.http2, new.http2)
        if old.proxy_protocol != new.proxy_protocol:
            yield "proxy_protocol changed"
        if old.default_action != new.default_action:
            yield "default action changed"
        yield from _each("rule", old.rules, new.rules, lambda rule: rule.priority, _changed)
        yield from _each("certificate", old.certificates, new.certificates, _name, _changed)
        defaults = [[spec.name for spec in listener.certificates[:1]] for listener in (old, new)]
        if defaults[0] != defaults[1]:
            yield f"default certificate {', '.join(defaults[1]) or 'none'}"
        yield from _filters(old.filters, new.filters)
        if old.tracing != new.tracing:
            yield "tracing changed"
        yield from _firewall(old.firewall, new.firewall)
        yield from _numbers(old.limits, new.limits)

    return _inside(lines())


def _filters(old: tuple[FilterSpec, ...], new: tuple[FilterSpec, ...]) -> Iterator[str]:
    """By name: there may be secrets in what they are told."""
    before, after = (", ".join(each.name for each in filters) or "none" for filters in (old, new))
    yield from _value("filters", before, after)
    if before == after:
        yield from (f"filter {each.name} changed" for each, was in zip(new, old, strict=True) if each != was)


def _firewall(old: FirewallSpec, new: FirewallSpec) -> Iterator[str]:
    yield from _each("security group", old.groups or (), new.groups or (), lambda group: group.name, _changed)
    placements = old.placements, new.placements
    yield from _each(
        "subnet", *placements, lambda placement: placement.subnet, lambda _old, _new: [" or its ACL changed"]
    )


def _group_firewalls(old: dict[str, FirewallSpec], new: dict[str, FirewallSpec]) -> Iterator[str]:
    for name, firewall in new.items():
        if name in old and old[name] != firewall:
            yield from (f"target group {name}: {line}" for line in _firewall(old[name], firewall))


def _target_group(old: TargetGroupSpec, new: TargetGroupSpec) -> Iterator[str]:
    def lines() -> Iterator[str]:
        yield from _value("protocol", old.protocol, new.protocol)
        yield from _value("protocol_version", old.protocol_version, new.protocol_version)
        yield from _value("algorithm", old.algorithm, new.algorithm)
        yield from _value("proxy_protocol", old.proxy_protocol or "none", new.proxy_protocol or "none")
        if old.tls != new.tls:
            yield "tls changed"
        delays = seconds_as_text(old.deregistration_delay), seconds_as_text(new.deregistration_delay)
        yield from _value("deregistration_delay", *delays)
        for name in ("hash_key", "zone", "cross_zone", "zone_preference", "minimum_healthy_percentage", "fail_open"):
            yield from _value(name, getattr(old, name), getattr(new, name))
        yield from _value("slow_start", seconds_as_text(old.slow_start), seconds_as_text(new.slow_start))
        if old.outlier_detection != new.outlier_detection:
            yield "outlier detection changed"
        if old.health_check != new.health_check:
            verb = "changed" if old.health_check and new.health_check else "added" if new.health_check else "removed"
            yield f"health check {verb}"
        yield from _value("stickiness", _stickiness(old), _stickiness(new))
        yield from _numbers(old.retries, new.retries)
        yield from _numbers(old.limits, new.limits)
        yield from _each("target", old.targets, new.targets, lambda target: target.key, _weighted)
        yield from _each(
            "target",
            old.named_targets,
            new.named_targets,
            lambda target: host_port(target.host, target.port),
            _weighted,
        )

    return _inside(lines())


def _stickiness(group: TargetGroupSpec) -> str:
    spec = group.stickiness
    return f"{spec.kind} {spec.cookie} {seconds_as_text(spec.duration)}" if spec else "none"


Numbers = TypeVar("Numbers", ListenerLimits, GroupLimits, ProcessLimits, RetrySpec)


def _numbers(old: Numbers, new: Numbers) -> Iterator[str]:
    """Field by field, by the specification's own names."""
    for each in fields(new):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if each.name == "rates":
            yield from ["rate limits changed"] if before != after else []
        else:
            yield from _value(each.name, before, after)


def _weighted(
    old: TargetSpec | NamedTargetSpec | InstanceSpec, new: TargetSpec | NamedTargetSpec | InstanceSpec
) -> Iterator[str]:
    if old.weight != new.weight:
        yield f": weight {new.weight}, was {old.weight}"
    others = (field.name for field in fields(new) if field.name != "weight")
    if any(getattr(old, name) != getattr(new, name) for name in others):
        yield " changed"


def _namespace(old: NamespaceSpec, new: NamespaceSpec) -> Iterator[str]:
    def lines() -> Iterator[str]:
        yield from _value("answers as", ", ".join(old.names), ", ".join(new.names))
        yield from _value("ttl", seconds_as_text(old.ttl), seconds_as_text(new.ttl))
        yield from _each("service", old.services, new.services, _name, _service)
        yield from _each("record", old.records, new.records, lambda each: f"{each.name} {each.type}", _changed)
        yield from _value("seen by", *(", ".join(each.networks) or "everybody" for each in (old, new)))

    return _inside(lines())


def _service(old: ServiceSpec, new: ServiceSpec) -> Iterator[str]:
    def lines() -> Iterator[str]:
        yield from _value("records", _records(old), _records(new))
        yield from _value("routing policy", old.policy, new.policy)
        yield from _value("when all are unhealthy", old.all_unhealthy, new.all_unhealthy)
        yield from _value("max_answers", old.max_answers or "the policy's", new.max_answers or "the policy's")
        yield from _value("zone affinity", old.zone_affinity, new.zone_affinity)
        yield from _value("alpn", ", ".join(old.alpn) or "none", ", ".join(new.alpn) or "none")
        yield from _each("instance", old.instances, new.instances, lambda instance: instance.id, _weighted)

    return _inside(lines())


def _records(service: ServiceSpec) -> str:
    return ", ".join(f"{kind} {ttl}s" for kind, ttl in service.records)


def _endpoints(endpoints: Iterable[Endpoint | None]) -> str:
    return ", ".join(host_port(*endpoint) for endpoint in endpoints if endpoint is not None) or "nowhere"


def _resolvers(settings: Settings) -> str:
    return _endpoints(settings.resolvers) if settings.resolvers else "/etc/resolv.conf"


def _grace(settings: Settings) -> str:
    return "as needed" if settings.grace is None else seconds_as_text(settings.grace)


def _access_log(settings: Settings) -> str:
    log = settings.access_log
    return f"{log.path} as {log.format}" if log else "none"
