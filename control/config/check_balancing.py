"""Load balancers: listeners that can be bound together, rules that lead somewhere, health checks that make sense."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...proxy.specs import CheckProtocol, is_unix
from ...proxy.tls import POLICIES
from ..exits import host_port, overlap
from .check_changes import check_listener_changes, check_rule_changes
from .check_client_certificates import check_client_certificates, check_identity_condition
from .check_connections import check_listener_address, check_target_connections, check_transport
from .check_dns_serving import secure_sections
from .check_limits import check_forward_stickiness, check_group_limits, check_listener_limits
from .compile import GRPC, check_protocol, default_timeout, protocol_of, zone_of
from .mistakes import Path, closest
from .models import Action, Configuration, HealthCheck, Listener, LoadBalancer, Redirect, Rule, TargetGroup
from .review import Review
from .scalars import Endpoint, seconds_as_text

BY_TYPE = {"application": ("HTTP", "HTTPS"), "network": ("TCP", "TLS", "UDP")}
WITH_TLS = frozenset({"HTTPS", "TLS"})
LAYER_4 = frozenset({"TCP", "TLS", "UDP"})
PLACEHOLDERS = frozenset({"protocol", "host", "port", "path", "query"})
MAX_BODY = 65536  # ALB allows 1024; a page with its style in it is some ten times that


def check_balancing(review: Review) -> None:
    balancers = list(review.load_balancers())
    review.unique((((*path, "name"), balancer.name) for path, balancer in balancers), "the name {} is taken")
    groups: list[tuple[Path, TargetGroup]] = []
    owners: dict[str, LoadBalancer] = {}
    for path, balancer in balancers:
        for index, group in enumerate(balancer.target_groups):
            groups.append(((*path, "target_groups", index), group))
            owners.setdefault(group.name, balancer)
    review.unique((((*path, "name"), group.name) for path, group in groups), "the name {} is taken")
    for path, balancer in balancers:
        _load_balancer(review, path, balancer, owners)
    check_addresses(review)


def _load_balancer(review: Review, path: Path, balancer: LoadBalancer, owners: dict[str, LoadBalancer]) -> None:
    review.vpc((*path, "vpc"), balancer.vpc)
    review.zone((*path, "zone"), balancer.zone)
    for index, name in enumerate(balancer.subnets):
        review.reference((*path, "subnets", index), name, review.subnets, "subnet")
    for index, name in enumerate(balancer.security_groups):
        review.reference((*path, "security_groups", index), name, review.security_groups, "security group")
    for key, names in (("subnets", balancer.subnets), ("security_groups", balancer.security_groups)):
        review.unique((((*path, key, i), name) for i, name in enumerate(names)), "{} is named")
    if balancer.type == "network" and "tracing" in balancer.model_fields_set and review.sound((*path, "type")):
        review.mistake((*path, "tracing"), "a load balancer of type network reads no requests: leave it out")
    for index, listener in enumerate(balancer.listeners):
        _listener(review, (*path, "listeners", index), listener, balancer, path, owners)
    for index, group in enumerate(balancer.target_groups):
        _target_group(review, (*path, "target_groups", index), group, balancer, path)


def _protocol_fits(review: Review, path: Path, protocol: str, balancer: LoadBalancer, at: Path) -> None:
    fitting = BY_TYPE[balancer.type]
    if protocol not in fitting and review.sound((*at, "type")):
        review.mistake(path, f"{protocol} is not for a load balancer of type {balancer.type}: {_either(fitting)} is")


def _either(words: tuple[str, ...]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]])


# Listeners


def _listener(
    review: Review, path: Path, listener: Listener, balancer: LoadBalancer, at: Path, owners: dict[str, LoadBalancer]
) -> None:
    _protocol_fits(review, (*path, "protocol"), listener.protocol, balancer, at)
    if review.sound((*path, "protocol")):
        _tls(review, path, listener)
    check_listener_limits(review, path, listener)
    _default_action(review, path, listener, balancer, at)
    check_transport(review, path, listener, balancer)
    if listener.default_action:
        _action(review, (*path, "default_action"), listener.default_action, listener, balancer, owners)
    review.unique(
        (((*path, "rules", i, "priority"), rule.priority) for i, rule in enumerate(listener.rules)),
        "the priority {} is taken",
    )
    check_listener_address(review, path, listener)
    if listener.rules and listener.protocol in LAYER_4:
        review.mistake((*path, "rules"), f"a {listener.protocol} listener reads no requests: rules are for HTTP, HTTPS")
    check_listener_changes(review, path, listener)
    for index, rule in enumerate(listener.rules):
        _rule(review, (*path, "rules", index), rule, listener, balancer, owners)


def _tls(review: Review, path: Path, listener: Listener) -> None:
    policy = listener.ssl_policy
    if policy not in POLICIES:
        meant = closest(policy, POLICIES)
        advice = f'did you mean "{meant}"?' if meant else "known are TLS-1-2, TLS-1-3 and the ELBSecurityPolicy names"
        review.mistake((*path, "ssl_policy"), f'no policy is named "{policy}", {advice}')
    named = listener.certificate is not None or listener.certificates
    if listener.protocol not in WITH_TLS:
        for key in ("ssl_policy", "certificate", "certificates", "client_certificates"):
            if key in listener.model_fields_set:
                twin = "HTTPS" if listener.protocol == "HTTP" else "TLS"
                review.mistake(
                    (*path, key), f"is for TLS, and this listener is {listener.protocol}: did you mean {twin}?"
                )
        return
    if not named and review.sound((*path, "certificate"), (*path, "certificates")):
        message = f"is missing: a listener of protocol {listener.protocol} shows a certificate, name one"
        review.mistake((*path, "certificate"), message, at_key=True)
    for place, name in certificate_references(path, listener):
        if review.configuration.certificates is not None:
            review.reference(place, name, review.certificates, "certificate")
        elif review.sound(("certificates",)):
            message = f'without a certificates: section, "{name}" is a self-signed certificate that is made meanwhile'
            review.warn(place, message)
    if listener.client_certificates is not None:
        check_client_certificates(review, (*path, "client_certificates"), listener, listener.client_certificates)


def certificate_references(path: Path, listener: Listener) -> Iterator[tuple[Path, str]]:
    if listener.certificate is not None:
        yield (*path, "certificate"), listener.certificate
    for index, name in enumerate(listener.certificates):
        yield (*path, "certificates", index), name


def _default_action(review: Review, path: Path, listener: Listener, balancer: LoadBalancer, at: Path) -> None:
    if listener.default_action is None and review.sound((*at, "target_groups")) and len(balancer.target_groups) != 1:
        count = len(balancer.target_groups) or "no"
        message = f"is missing: with {count} target groups nothing says where to forward, write {{forward: NAME}}"
        review.mistake((*path, "default_action"), message, at_key=True)


def _rule(
    review: Review, path: Path, rule: Rule, listener: Listener, balancer: LoadBalancer, owners: dict[str, LoadBalancer]
) -> None:
    kinds = tuple(type(rule.conditions).model_fields)
    empty = not any(getattr(rule.conditions, kind) for kind in kinds)
    if empty and review.whole((*path, "conditions")):
        review.mistake((*path, "conditions"), f"must hold at least one of {', '.join(kinds)}")
    check_rule_changes(review, path, rule)
    for name in rule.conditions.header or ():
        check_identity_condition(review, (*path, "conditions", "header", name), name)
    _action(review, (*path, "action"), rule.action, listener, balancer, owners)


# Actions


def _action(
    review: Review,
    path: Path,
    action: Action,
    listener: Listener,
    balancer: LoadBalancer,
    owners: dict[str, LoadBalancer],
) -> None:
    if action.forward is not None:
        _forward(review, (*path, "forward"), action, balancer, owners)
    elif listener.protocol in LAYER_4 and (action.redirect or action.fixed_response):
        review.mistake(path, f"a {listener.protocol} listener can only forward")
    check_forward_stickiness(review, path, action, listener)
    if action.redirect is not None:
        _redirect(review, (*path, "redirect"), action.redirect)
    if action.fixed_response is not None:
        answer = action.fixed_response
        if not re.fullmatch(r"[\x21-\x7e]+/[\x20-\x7e]+", answer.content_type):
            review.mistake((*path, "fixed_response", "content_type"), "must be a media type such as text/plain")
        if answer.body and answer.status in {204, 304}:
            review.mistake((*path, "fixed_response", "body"), f"an answer of status {answer.status} has no body")
        if len(answer.body.encode()) > MAX_BODY:
            review.mistake((*path, "fixed_response", "body"), f"is longer than {MAX_BODY} bytes: let a target answer")


def _forward(
    review: Review, path: Path, action: Action, balancer: LoadBalancer, owners: dict[str, LoadBalancer]
) -> None:
    groups = action.forward or ()
    places = [(*path, index, "target_group") for index in range(len(groups))]
    review.unique(zip(places, (group.target_group for group in groups), strict=True), "{} is named")
    for place, group in zip(places, groups, strict=True):
        name = group.target_group
        known = review.reference(place, name, review.target_groups, "target group")
        if known and name in owners and owners[name] is not balancer:
            review.mistake(place, f"{name} belongs to the load balancer {owners[name].name}, not to {balancer.name}")
    if groups and not any(group.weight for group in groups) and review.sound(*((*p[:-1], "weight") for p in places)):
        review.mistake(path, "every weight is 0, so nobody would get a request: give one at least 1")


def _redirect(review: Review, path: Path, redirect: Redirect) -> None:
    for key in ("host", "path", "query"):
        value: str = getattr(redirect, key)
        for placeholder in re.findall(r"#\{([^}]*)\}", value):
            if placeholder not in PLACEHOLDERS:
                known = ", ".join(f"#{{{name}}}" for name in sorted(PLACEHOLDERS))
                review.mistake((*path, key), f"#{{{placeholder}}} is not known, these are: {known}")
        if not re.fullmatch(r"[\x21-\x7e]*", value):
            review.mistake((*path, key), "must be visible ASCII without spaces: percent-encode the rest")
    if not redirect.path.startswith("/"):
        review.mistake((*path, "path"), f"must begin with /: write /{redirect.path}")
    if not redirect.host:
        review.mistake((*path, "host"), "must not be empty: leave it out to keep the host")
    keys = ("protocol", "host", "port", "path", "query")
    unchanged = all(getattr(redirect, key) == Redirect.model_fields[key].default for key in keys)
    if unchanged and review.whole(path):
        review.mistake(path, "leads to where the client already is: change protocol, host, port, path or query")


# Target groups


def _target_group(review: Review, path: Path, group: TargetGroup, balancer: LoadBalancer, at: Path) -> None:
    review.vpc((*path, "vpc"), group.vpc)
    check_group_limits(review, path, group, balancer)
    if group.protocol is not None:
        _protocol_fits(review, (*path, "protocol"), group.protocol, balancer, at)
    if group.health_check is not None:
        asked = check_protocol(group.health_check, protocol_of(group, balancer), group.protocol_version)
        check_health_check(review, (*path, "health_check"), group.health_check, asked)
    _choosing(review, path, group, balancer, at)
    places: list[tuple[Path, str]] = []
    for index, target in enumerate(group.targets):
        place = (*path, "targets", index)
        review.zone((*place, "zone"), target.zone)
        if target.ip is None and target.host is None and review.sound((*place, "ip"), (*place, "host")):
            review.mistake((*place, "ip"), "is missing: a target has an ip, or a host to be resolved", at_key=True)
        if target.ip is not None and target.host is not None:
            review.mistake((*place, "host"), "stands beside an ip: leave one of the two out")
        port = target.port or group.port
        if target.ip is not None and is_unix(target.ip):
            if review.sound((*place, "ip")):
                places.append(((*place, "ip"), host_port(target.ip, 0)))
        elif port is None:
            if review.sound((*place, "port"), (*path, "port")):
                review.mistake((*place, "port"), "is missing, and the target group has none to lend", at_key=True)
        elif review.sound((*place, "port"), (*path, "port")):
            for key, where in (("ip", target.ip), ("host", target.host)):
                if where is not None:
                    places.append(((*place, key), host_port(where, port)))
    review.unique(places, "the target {} is listed")
    check_target_connections(review, path, group)


def _choosing(review: Review, path: Path, group: TargetGroup, balancer: LoadBalancer, at: Path) -> None:
    hashing = group.algorithm == "consistent_hash"
    if "hash_key" in group.model_fields_set and not hashing and review.sound((*path, "algorithm")):
        review.mistake((*path, "hash_key"), f"is for the algorithm consistent_hash, and this one is {group.algorithm}")
    if hashing and group.hash_key != "source" and balancer.type == "network" and review.sound((*at, "type")):
        review.mistake((*path, "hash_key"), "a network load balancer reads no requests: leave it out, or write source")
    if hashing and group.slow_start:
        message = "would move clients from target to target all the while: leave it out with consistent_hash"
        review.mistake((*path, "slow_start"), message)
    for key, asks in (("cross_zone", not group.cross_zone), ("zone_preference", group.zone_preference)):
        known = zone_of(balancer, review.configuration.network) is not None
        in_doubt = not review.sound((*at, "zone"), (*at, "subnets"), ("network",), ("network", "subnets"))
        if asks and not known and not in_doubt:
            message = "needs to know where the load balancer stands: give it a zone, or subnets of one zone"
            review.mistake((*path, key), message)
    if group.zone_preference and not group.cross_zone:
        review.mistake((*path, "zone_preference"), "has no other zone to spill over to while cross_zone is false")
    if group.minimum_healthy_percentage and not group.fail_open:
        review.mistake((*path, "minimum_healthy_percentage"), "does nothing while fail_open is false: leave one out")
    outlier = group.outlier_detection
    if outlier is not None and outlier.max_ejection_time < outlier.ejection_time:
        ejection_time = seconds_as_text(outlier.ejection_time)
        message = f"{seconds_as_text(outlier.max_ejection_time)} is shorter than the ejection_time, {ejection_time}"
        review.mistake((*path, "outlier_detection", "max_ejection_time"), message)


def check_health_check(review: Review, path: Path, check: HealthCheck, protocol: CheckProtocol) -> None:
    if review.sound((*path, "interval")) and (check.timeout or 0) > check.interval:
        interval, timeout = seconds_as_text(check.interval), seconds_as_text(default_timeout(check))
        review.mistake(
            (*path, "timeout"), f"{timeout} is longer than the interval, {interval}: probes would pile up, shorten it"
        )
    silent = protocol == "TCP"
    for key in ("path", "matcher"):
        if silent and key in check.model_fields_set:
            review.mistake((*path, key), "a TCP check only connects: leave it out, or make the protocol HTTP")
    if not silent and check.matcher is not None:
        grpc = protocol in GRPC
        low, high, kind = (0, 99, "gRPC") if grpc else (100, 599, "HTTP")
        if not all(low <= first <= last <= high for first, last in check.matcher):
            review.mistake((*path, "matcher"), f"statuses of {kind} are from {low} to {high}")


# Addresses


def check_addresses(review: Review) -> None:
    """No two listeners of this process, DNS and admin among them, may want one port of TCP or UDP, or one file."""
    taken: dict[tuple[str, int], list[tuple[str, Path]]] = {}
    told: set[Path] = set()
    for path, transport, (address, port) in _bound(review, review.configuration):
        if path in told:  # DNS wants both
            continue
        for other, other_path in taken.get((transport, port), ()):
            if overlap(address, other):
                theirs = host_port(other, port)
                message = f"{host_port(address, port)} is taken by {theirs} in line {review.line(other_path)}"
                review.mistake(path, f"{message}: choose another port or address")
                told.add(path)
                break
        else:
            taken.setdefault((transport, port), []).append((address, path))


def _bound(review: Review, configuration: Configuration) -> Iterator[tuple[Path, str, Endpoint]]:
    for path, balancer in review.load_balancers():
        for index, listener in enumerate(balancer.listeners):
            place = (*path, "listeners", index)
            if review.sound((*place, "port"), (*place, "address")) and (listener.port or is_unix(listener.address)):
                at = (*place, "address" if listener.port is None else "port")
                transport = "udp" if listener.protocol == "UDP" else "tcp"
                yield at, transport, (listener.address, listener.port or 0)
    if configuration.dns and review.sound(("dns", "listen")):
        for index, listen in enumerate(configuration.dns.listen):
            yield ("dns", "listen", index), "tcp", listen
            yield ("dns", "listen", index), "udp", listen
        for place, section in secure_sections(("dns",), configuration.dns):
            for index, listen in enumerate(section.listen):
                yield (*place, "listen", index), "tcp", listen
    if configuration.admin and review.sound(("admin", "listen")):
        yield ("admin", "listen"), "tcp", configuration.admin.listen
