"""What a file says and nothing will ever notice: rules behind others, hosts without a certificate, idle target groups.

All of it is a warning, for the file does what it says. It is looked for when nothing is wrong any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...proxy.coverage import Admission, covered, pattern_covers, shadowed
from ...proxy.first_match import parse_network
from ...proxy.specs import CertificateSpec
from ...proxy.tls import certificate_names
from .check_balancing import WITH_TLS
from .compile import compile_rule
from .mistakes import Path
from .models import Listener, LoadBalancer
from .models_security import AclRule, SecurityRule
from .review import Review
from .scalars import Network


def check_coverage(review: Review, certificates: Mapping[str, CertificateSpec]) -> None:
    for path, balancer in review.load_balancers():
        for index, listener in enumerate(balancer.listeners):
            place = (*path, "listeners", index)
            _shadowed_rules(review, place, listener)
            if listener.protocol in WITH_TLS:
                _hosts_without_certificate(review, place, listener, certificates)
    _idle_target_groups(review)
    _covered_security_rules(review)
    _covered_acl_rules(review)


def _shadowed_rules(review: Review, path: Path, listener: Listener) -> None:
    places = {rule.priority: (*path, "rules", index) for index, rule in enumerate(listener.rules)}
    for rule, earlier in shadowed([compile_rule(rule) for rule in listener.rules]):
        line = review.line(places[earlier.priority])
        message = f"can never match: rule {earlier.priority} in line {line} takes all of it before"
        review.warn((*places[rule.priority], "priority"), message)
    for rule in listener.rules:
        for index, host in enumerate(rule.conditions.host or ()):
            if ":" in host and not host.endswith("]"):
                message = f'"{host}" can never match: hosts are compared without their port, leave it out'
                review.warn((*places[rule.priority], "conditions", "host", index), message)


def _hosts_without_certificate(
    review: Review, path: Path, listener: Listener, certificates: Mapping[str, CertificateSpec]
) -> None:
    shown = [certificates[name] for name in listener.certificate_names()]
    names = frozenset().union(*map(certificate_names, shown))
    for number, rule in enumerate(listener.rules):
        for index, host in enumerate(rule.conditions.host or ()):
            if not any(_may_be(host.lower().strip("[]"), name) for name in names):
                message = f'no certificate of this listener is for "{host}", so clients will not trust it: add one'
                review.warn((*path, "rules", number, "conditions", "host", index), message)


def _may_be(host: str, name: str) -> bool:
    """Whether some host that the pattern fits is one that the certificate's name is for."""
    if pattern_covers(host.encode(), name.encode()):
        return True
    _, dot, parent = host.partition(".")
    # A wildcard stands for exactly one label (RFC 9525 section 6.3).
    return bool(dot) and name.startswith("*.") and pattern_covers(parent.encode(), name[2:].encode())


def _idle_target_groups(review: Review) -> None:
    used = {
        weighted.target_group
        for _, balancer in review.load_balancers()
        for listener in balancer.listeners
        for action in (listener.default_action, *(rule.action for rule in listener.rules))
        for weighted in (action.forward or () if action is not None else ())
    }
    used |= {_only_group(balancer) for _, balancer in review.load_balancers()}
    used |= {
        service.target_group
        for namespace in review.configuration.service_discovery.namespaces
        for service in namespace.services
        if service.target_group is not None
    }
    for path, balancer in review.load_balancers():
        for index, group in enumerate(balancer.target_groups):
            if group.name not in used:
                message = f"nobody uses {group.name}: no listener and no rule forwards to it, and no name is for it"
                review.warn((*path, "target_groups", index, "name"), message)


def _only_group(balancer: LoadBalancer) -> str:
    """What listeners without a default action forward to."""
    left_out = any(listener.default_action is None for listener in balancer.listeners)
    return balancer.target_groups[0].name if left_out else ""


def _covered_security_rules(review: Review) -> None:
    for name, group in review.configuration.security.security_groups.items():
        for direction, rules, key in (
            ("ingress", [(rule, rule.source) for rule in group.ingress], "source"),
            ("egress", [(rule, rule.destination) for rule in group.egress or ()], "destination"),
        ):
            path: Path = ("security", "security_groups", name, direction)
            for index, other in covered([_admission(rule, peer) for rule, peer in rules], ordered=False):
                line = review.line((*path, other))
                review.warn((*path, index, key), f"adds nothing: rule {other} in line {line} allows all of it")


def _admission(rule: SecurityRule, peer: Network | str) -> Admission:
    network = None if isinstance(peer, str) else parse_network(str(peer))
    return Admission(rule.protocol, rule.port or (0, 65535), network, peer if isinstance(peer, str) else "")


def _covered_acl_rules(review: Review) -> None:
    for name, acl in review.configuration.security.network_acls.items():
        for direction, rules in (
            ("inbound", [(rule, rule.source) for rule in acl.inbound]),
            ("outbound", [(rule, rule.destination) for rule in acl.outbound]),
        ):
            path: Path = ("security", "network_acls", name, direction)
            for index, other in _covered_in_order(rules):
                line = review.line((*path, other))
                message = f"never decides: rule {rules[other][0].number} in line {line} comes before and fits all of it"
                review.warn((*path, index, "number"), message)


def _covered_in_order(rules: Sequence[tuple[AclRule, Network]]) -> Iterator[tuple[int, int]]:
    """Indices are those of the file, precedence is that of the numbers."""
    order = sorted(range(len(rules)), key=lambda index: rules[index][0].number)
    admissions = [
        Admission(rule.protocol, rule.ports, parse_network(str(peer))) for rule, peer in (rules[at] for at in order)
    ]
    for idle, other in covered(admissions, ordered=True):
        yield order[idle], order[other]
