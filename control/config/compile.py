"""From a configuration without mistakes to the specs of the planes. Pure: what files hold was read before.

Defaults that depend on something else in the file are settled here, so that no plane has to know where they came from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ...dns.forwarding_specs import BY_DEFAULT as FORWARDING
from ...dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, RecordType, ServiceSpec
from ...dns.transport_specs import BY_DEFAULT as TRANSPORT
from ...proxy.grpc_health import HEALTH_PATH
from ...proxy.health import CheckKey
from ...proxy.specs import (
    UNCHANGED,
    Action,
    CertificateSpec,
    CheckProtocol,
    ClientCertificatesSpec,
    Conditions,
    FilterSpec,
    FirewallSpec,
    FixedResponse,
    Forward,
    HeaderChanges,
    HealthCheckSpec,
    ListenerSpec,
    NamedTargetSpec,
    OutlierSpec,
    ProtocolVersion,
    ProxySpec,
    Redirect,
    Rewrite,
    RuleSpec,
    TargetGroupSpec,
    TargetProtocol,
    TargetSpec,
    TargetTlsSpec,
    TracingSpec,
    TrustedProxiesSpec,
    WeightedGroup,
    is_unix,
)
from . import compile_limits, models, models_filters, models_rules
from .compile_dns import latencies, networks, outlasting_answers, place_of, recursion, seen_by, static_records
from .compile_dns_serving import compile_forwarding, compile_transport
from .compile_registration import registration
from .compile_security import Firewalls
from .settings import AccessLogSettings, NamedService, Settings

MAX_DNS_WEIGHT: Final = 255  # Route 53
DEFAULT_TIMEOUT: Final = 5.0  # ALB
DEFAULT_MATCHER: Final = ((200, 399),)  # 200 alone on ALB; HAProxy, Traefik and Envoy take redirects too
DEFAULT_GRPC_MATCHER: Final = ((0, 0),)  # ALB's is 12, UNIMPLEMENTED, for it calls a method that nobody has
GRPC: Final = frozenset({"GRPC", "GRPCS"})


def compile_settings(
    configuration: models.Configuration,
    certificates: Mapping[str, CertificateSpec],
    state_directory: Path,
    resolve: Callable[[str], Path],
    authorities: Mapping[str, bytes] = MappingProxyType({}),
    sticky_key: bytes = b"",
    revocations: Mapping[str, bytes] = MappingProxyType({}),
) -> Settings:
    """`certificates` has every name that a listener or target group uses, `authorities` what each `ca_file` holds,
    `revocations` what each `crl_file`.

    `resolve` makes a path of the file an absolute one.
    """
    proxy = replace(
        _proxy(configuration, certificates, authorities, revocations),
        close_spread=configuration.shutdown.close_spread,
        sticky_key=sticky_key,
    )
    groups = {group.name: group for group in proxy.target_groups}
    dns, admin, log = configuration.dns, configuration.admin, configuration.access_log
    namespaces = configuration.service_discovery.namespaces
    zones = tuple(_namespace(namespace, configuration, groups) for namespace in namespaces)
    return Settings(
        proxy=replace(proxy, target_groups=outlasting_answers(proxy.target_groups, namespaces, zones)),
        dns=DnsSpec(
            listen=dns.listen if dns else (),
            namespaces=zones,
            resolvers=dns.resolvers if dns else (),
            recursion=recursion(dns),
            networks=networks(configuration),
            latencies=latencies(dns),
            forwarding=compile_forwarding(dns) if dns else FORWARDING,
            transport=compile_transport(dns, certificates, resolve, sticky_key) if dns else TRANSPORT,
        ),
        dns_checks=frozenset(_own_checks(namespaces)),
        admin=admin.listen if admin else None,
        access_log=AccessLogSettings(_log_path(log.file, resolve), log.format) if log else None,
        state_directory=state_directory,
        drain=configuration.shutdown.drain,
        grace=configuration.shutdown.grace,
        resolvers=configuration.resolution.resolvers,
        workers=configuration.workers,
        named_services=tuple(_named_services(namespaces, groups)),
        registration=registration(configuration.service_discovery, _health_check),
    )


def _log_path(file: str, resolve: Callable[[str], Path]) -> str:
    return "/dev/stdout" if file == "-" else str(resolve(file))


# Load balancers


def _proxy(
    configuration: models.Configuration,
    certificates: Mapping[str, CertificateSpec],
    authorities: Mapping[str, bytes],
    revocations: Mapping[str, bytes],
) -> ProxySpec:
    firewalls = Firewalls(configuration)
    listeners: list[ListenerSpec] = []
    groups: list[TargetGroupSpec] = []
    group_firewalls: list[tuple[str, FirewallSpec]] = []
    for balancer in configuration.every_load_balancer():
        firewall = firewalls.of(balancer)
        listeners += (
            _listener(listener, balancer, certificates, firewall, authorities, revocations)
            for listener in balancer.listeners
        )
        zone = zone_of(balancer, configuration.network)
        groups += (
            _target_group(group, balancer, zone, _target_tls(group, certificates, authorities))
            for group in balancer.target_groups
        )
        group_firewalls += ((group.name, firewall) for group in balancer.target_groups)
    limits = compile_limits.process_limits(configuration.limits)
    return ProxySpec(tuple(listeners), tuple(groups), tuple(group_firewalls), limits=limits)


def _listener(
    listener: models.Listener,
    balancer: models.LoadBalancer,
    certificates: Mapping[str, CertificateSpec],
    firewall: FirewallSpec,
    authorities: Mapping[str, bytes],
    revocations: Mapping[str, bytes],
) -> ListenerSpec:
    default = listener.default_action
    action = _action(default) if default else Forward((WeightedGroup(balancer.target_groups[0].name),))
    return ListenerSpec(
        load_balancer=balancer.name,
        address=listener.address,
        port=listener.port or 0,
        protocol=listener.protocol,
        default_action=action,
        rules=tuple(sorted(map(compile_rule, listener.rules), key=lambda rule: rule.priority)),
        certificates=tuple(certificates[name] for name in listener.certificate_names()),
        client_certificates=_client_certificates(listener.client_certificates, authorities, revocations),
        ssl_policy=listener.ssl_policy,
        http2=listener.http2,
        firewall=firewall,
        proxy_protocol=_trusted(listener.proxy_protocol) if listener.proxy_protocol else None,
        request_headers=_header_changes(listener.request_headers),
        response_headers=_header_changes(listener.response_headers),
        limits=compile_limits.listener_limits(listener.timeouts, listener.limits),
        tracing=_tracing(balancer),
        filters=_filters(listener.filters),
    )


def _trusted(proxies: models.ProxyProtocol) -> TrustedProxiesSpec:
    return TrustedProxiesSpec(tuple(map(str, proxies.trusted)), proxies.required)


def _client_certificates(
    asked: models.ClientCertificates | None, authorities: Mapping[str, bytes], revocations: Mapping[str, bytes]
) -> ClientCertificatesSpec | None:
    if asked is None or asked.mode == "off":
        return None
    return ClientCertificatesSpec(
        asked.mode,
        b"" if asked.ca_file is None else authorities[asked.ca_file],
        b"" if asked.crl_file is None else revocations[asked.crl_file],
    )


def _tracing(balancer: models.LoadBalancer) -> TracingSpec | None:
    if balancer.type == "network":
        return None
    name = balancer.tracing.request_id
    return TracingSpec(None if name == "none" else name, balancer.tracing.traceparent)


def compile_rule(rule: models.Rule) -> RuleSpec:
    asked = rule.conditions
    conditions = Conditions(
        path=asked.path or (),
        host=asked.host or (),
        method=asked.method or (),
        header=tuple((name.lower(), values) for name, values in (asked.header or {}).items()),
        query=tuple(tuple(alternative.items()) for alternative in asked.query or ()),
        source_ip=tuple(map(str, asked.source_ip or ())),
    )
    transforms = rule.transforms or models_rules.Transforms()
    return RuleSpec(
        rule.priority,
        conditions,
        _action(rule.action),
        url_rewrite=_rewrite(transforms.url_rewrite),
        host_rewrite=_rewrite(transforms.host_header_rewrite),
        request_headers=_header_changes(rule.request_headers),
        response_headers=_header_changes(rule.response_headers),
        body_limit=rule.limits.body,
        request_timeout=rule.timeouts.request,
        filters=_filters(rule.filters),
    )


def _filters(filters: Iterable[models_filters.Filter]) -> tuple[FilterSpec, ...]:
    return tuple(FilterSpec(each.name, json.dumps(each.config)) for each in filters)


def _rewrite(rewrite: models_rules.Rewrite | None) -> Rewrite | None:
    return None if rewrite is None else Rewrite(rewrite.regex, rewrite.replace)


def _header_changes(changes: models_rules.HeaderChanges | None) -> HeaderChanges:
    if changes is None:
        return UNCHANGED
    added = tuple((name, value) for name, values in changes.add.items() for value in values)
    return HeaderChanges(tuple(changes.set.items()), added, changes.remove)


def _action(action: models.Action) -> Action:
    if action.forward is not None:
        groups = tuple(WeightedGroup(group.target_group, group.weight) for group in action.forward)
        return Forward(groups, action.stickiness or 0.0)
    if action.redirect is not None:
        to = action.redirect
        return Redirect(to.status, to.protocol, to.host, to.port, to.path, to.query)
    answer = action.fixed_response
    assert answer is not None, "an action is exactly one of three"
    return FixedResponse(answer.status, answer.content_type, answer.body)


def zone_of(balancer: models.LoadBalancer, network: models.NetworkSection | None) -> str | None:
    """The zone it stands in; None when nothing says so, or its subnets lie in several."""
    if balancer.zone is not None:
        return balancer.zone
    zones = {subnet.zone for subnet in (network.subnets if network else ()) if subnet.name in balancer.subnets}
    return zones.pop() if len(zones) == 1 else None


def _target_group(
    group: models.TargetGroup, balancer: models.LoadBalancer, zone: str | None, tls: TargetTlsSpec
) -> TargetGroupSpec:
    protocol = protocol_of(group, balancer)
    return TargetGroupSpec(
        name=group.name,
        protocol=protocol,
        protocol_version=group.protocol_version,
        algorithm=group.algorithm,
        health_check=_group_check(group, group.health_check, protocol, tls) if group.health_check else None,
        targets=tuple(
            TargetSpec(
                target.ip, 0 if is_unix(target.ip) else target.port or group.port or 0, target.weight, target.zone
            )
            for target in group.targets
            if target.ip is not None
        ),
        named_targets=tuple(
            NamedTargetSpec(target.host, target.port or group.port or 0, target.weight, target.zone)
            for target in group.targets
            if target.host is not None
        ),
        deregistration_delay=group.deregistration_delay,
        hash_key=group.hash_key,
        slow_start=group.slow_start,
        zone=zone,
        cross_zone=group.cross_zone,
        zone_preference=group.zone_preference,
        minimum_healthy_percentage=group.minimum_healthy_percentage,
        fail_open=group.fail_open,
        outlier_detection=_outlier_detection(group.outlier_detection) if group.outlier_detection else None,
        proxy_protocol=group.proxy_protocol,
        tls=tls,
        stickiness=compile_limits.stickiness(group.stickiness) if group.stickiness else None,
        retries=compile_limits.retries(group.retries),
        limits=compile_limits.group_limits(group.timeouts, group.limits),
    )


def protocol_of(group: models.TargetGroup, balancer: models.LoadBalancer) -> TargetProtocol:
    return group.protocol or ("HTTP" if balancer.type == "application" else "TCP")


def _outlier_detection(detection: models.OutlierDetection) -> OutlierSpec:
    return OutlierSpec(
        consecutive_failures=detection.consecutive_failures,
        ejection_time=detection.ejection_time,
        max_ejection_time=detection.max_ejection_time,
        max_ejection_percentage=detection.max_ejection_percentage,
    )


def _target_tls(
    group: models.TargetGroup, certificates: Mapping[str, CertificateSpec], authorities: Mapping[str, bytes]
) -> TargetTlsSpec:
    tls, hosts = group.tls, {target.host for target in group.targets}
    # Targets of one name have certificates for it, hardly ones for the addresses that it happens to have today.
    own_name = hosts.pop() if len(hosts) == 1 else None
    if tls is None:
        return TargetTlsSpec(server_name=own_name)
    return TargetTlsSpec(
        verify=tls.verify,
        ca_pem=None if tls.ca_file is None else authorities[tls.ca_file],
        server_name=tls.server_name or own_name,
        certificate=None if tls.client_certificate is None else certificates[tls.client_certificate],
    )


def _group_check(
    group: models.TargetGroup, check: models.HealthCheck, protocol: TargetProtocol, tls: TargetTlsSpec
) -> HealthCheckSpec:
    """A check meets a target as its clients' connections do, or it would call healthy what answers nobody."""
    spec = _health_check(check, protocol, group.protocol_version)
    return replace(
        spec,
        tls=tls if spec.protocol in {"HTTPS", "GRPCS"} and protocol in {"HTTPS", "TLS"} else None,
        proxy_protocol=None if protocol == "UDP" else group.proxy_protocol,
    )


def _health_check(
    check: models.HealthCheck, asked: TargetProtocol, version: ProtocolVersion = "HTTP1"
) -> HealthCheckSpec:
    protocol = check_protocol(check, asked, version)
    return HealthCheckSpec(
        protocol=protocol,
        path=check.path or (HEALTH_PATH if protocol in GRPC else "/"),
        port=check.port,
        interval=check.interval,
        timeout=default_timeout(check),
        healthy_threshold=check.healthy_threshold,
        unhealthy_threshold=check.unhealthy_threshold,
        matcher=check.matcher or (DEFAULT_GRPC_MATCHER if protocol in GRPC else DEFAULT_MATCHER),
    )


def default_timeout(check: models.HealthCheck) -> float:
    """A check every two seconds that waits five would trip over itself."""
    return min(DEFAULT_TIMEOUT, check.interval) if check.timeout is None else check.timeout


def check_protocol(check: models.HealthCheck, asked: TargetProtocol, version: ProtocolVersion) -> CheckProtocol:
    """How to probe a target that speaks `asked`. ALB's default is HTTP even for HTTPS, where it can only fail."""
    if check.protocol is not None:
        return check.protocol
    if version == "GRPC" and asked in {"HTTP", "HTTPS"}:
        return "GRPCS" if asked == "HTTPS" else "GRPC"
    if asked in {"TCP", "TLS", "UDP"} and check.path is None and check.matcher is None:
        return "TCP"
    return "HTTPS" if asked == "HTTPS" else "HTTP"


# Service discovery


def _namespace(
    namespace: models.Namespace, configuration: models.Configuration, groups: Mapping[str, TargetGroupSpec]
) -> NamespaceSpec:
    network = configuration.network
    services = tuple(_service(service, namespace, network, groups) for service in namespace.services)
    return NamespaceSpec(
        zones_of(namespace, network),
        services,
        ttl=int(namespace.ttl),
        records=static_records(namespace),
        networks=seen_by(namespace, configuration),
    )


def zones_of(namespace: models.Namespace, network: models.NetworkSection | None) -> tuple[str, ...]:
    """Its own name, and where the network has a domain the name below that."""
    domain = network.vpc.dns.domain if network else None
    return (namespace.name, f"{namespace.name}.{domain}") if domain else (namespace.name,)


def _service(
    service: models.Service,
    namespace: models.Namespace,
    network: models.NetworkSection | None,
    groups: Mapping[str, TargetGroupSpec],
) -> ServiceSpec:
    if service.target_group is not None:
        instances = tuple(instances_of(groups[service.target_group], network))
    else:
        instances = tuple(_from_instances(service, network))
    records: dict[RecordType, int] = {
        record.type: int(namespace.ttl if record.ttl is None else record.ttl) for record in service.dns_records
    }
    return ServiceSpec(
        service.name,
        tuple(records.items()) or default_records(instances, int(namespace.ttl)),
        service.routing_policy or namespace.routing_policy,
        instances,
        all_unhealthy=service.all_unhealthy,
        max_answers=service.max_answers,
        zone_affinity=service.zone_affinity,
        alpn=tuple(dict.fromkeys(protocol for record in service.dns_records for protocol in record.alpn)),
    )


def _named_services(
    namespaces: Iterable[models.Namespace], groups: Mapping[str, TargetGroupSpec]
) -> Iterator[NamedService]:
    for number, namespace in enumerate(namespaces):
        for index, service in enumerate(namespace.services):
            group = service.target_group
            if group is not None and groups[group].named_targets:
                yield NamedService(number, index, group, None if service.dns_records else int(namespace.ttl))


def default_records(instances: tuple[InstanceSpec, ...], ttl: int) -> tuple[tuple[RecordType, int], ...]:
    """Of a service that lists none."""
    return tuple((rtype, ttl) for rtype in _default_types(instances))


def _default_types(instances: tuple[InstanceSpec, ...]) -> Iterator[RecordType]:
    versions = {ip_address(instance.ip).version for instance in instances}
    # A service whose instances are yet to come has a name all the same, and is open to what they will be.
    if 4 in versions or not versions:
        yield "A"
    if 6 in versions or not versions:
        yield "AAAA"
    if all(instance.port for instance in instances):
        yield "SRV"


def _from_instances(service: models.Service, network: models.NetworkSection | None) -> Iterator[InstanceSpec]:
    check = _health_check(service.health_check, "HTTP") if service.health_check else None
    for instance in service.instances:
        place = place_of(instance.ip, network)
        yield InstanceSpec(
            id=instance_id(instance),
            ip=instance.ip,
            port=instance.port or 0,
            weight=instance.weight,
            attributes=tuple(instance.attributes.items()),
            health_key=CheckKey.of(instance.ip, instance.port or 0, check) if check else None,
            failover=instance.failover,
            zone=instance.zone or place.zone,
            region=instance.region or place.region,
            location=instance.location or "",
        )


def instances_of(group: TargetGroupSpec, network: models.NetworkSection | None = None) -> Iterator[InstanceSpec]:
    # A target weighs up to 999, a record up to 255: shares are kept, and nobody's small share becomes none.
    heaviest = max((target.weight for target in group.targets), default=0)
    scale = min(1.0, MAX_DNS_WEIGHT / heaviest) if heaviest else 1.0
    for target in group.targets:
        place = place_of(target.ip, network)
        yield InstanceSpec(
            id=_made_id(target.ip, target.port),
            ip=target.ip,
            port=target.port,
            weight=max(1, round(target.weight * scale)) if target.weight else 0,
            attributes=(("zone", target.zone),) if target.zone else (),
            health_key=CheckKey.of(target.ip, target.port, group.health_check) if group.health_check else None,
            zone=target.zone or place.zone,
            region=place.region,
        )


def instance_id(instance: models.Instance) -> str:
    return instance.id or _made_id(instance.ip, instance.port)


def _made_id(ip: str, port: int | None) -> str:
    """`10-0-1-10-8080`. An IPv6 address is written out, for `::` would leave a hyphen at an end or two in a row."""
    digits = ip_address(ip).exploded.replace(".", "-").replace(":", "-")
    return digits if port is None else f"{digits}-{port}"


def _own_checks(namespaces: Iterable[models.Namespace]) -> Iterator[CheckKey]:
    for namespace in namespaces:
        for service in namespace.services:
            for instance in _from_instances(service, None):
                if isinstance(instance.health_key, CheckKey):
                    yield instance.health_key
