"""How connections come and go below HTTP: UDP, unix sockets, PROXY protocol headers, TLS to targets."""

from __future__ import annotations

from ...proxy.specs import is_unix
from .mistakes import Path
from .models import Listener, LoadBalancer, TargetGroup
from .review import Review


def check_listener_address(review: Review, path: Path, listener: Listener) -> None:
    unix = is_unix(listener.address)
    if unix and listener.port is not None:
        review.mistake((*path, "port"), "a unix socket has no port: leave it out")
    elif not unix and listener.port is None and review.sound((*path, "port"), (*path, "address")):
        review.mistake((*path, "port"), "is missing and has no default", at_key=True)
    if unix and listener.protocol == "UDP":
        review.mistake((*path, "address"), "a UDP listener needs an address and a port: unix sockets are for streams")
    proxies = listener.proxy_protocol
    if proxies is None:
        return
    if listener.protocol == "UDP":
        review.mistake((*path, "proxy_protocol"), "is read from connections, and this listener is UDP: leave it out")
    elif not unix and not proxies.trusted and review.whole((*path, "proxy_protocol")):
        message = "is missing: say whose word is taken, 0.0.0.0/0 is everyone's"
        review.mistake((*path, "proxy_protocol", "trusted"), message, at_key=True)
    elif unix and proxies.trusted:
        message = "peers on a unix socket have no address: its permissions say who is trusted, leave it out"
        review.mistake((*path, "proxy_protocol", "trusted"), message)


def check_transport(review: Review, path: Path, listener: Listener, balancer: LoadBalancer) -> None:
    """A datagram cannot be relayed to a stream, nor a stream to datagrams."""
    action = listener.default_action
    if balancer.type != "network" or not review.sound((*path, "protocol")):
        return
    groups = {group.name: group for group in balancer.target_groups}
    if action is None:
        places = [((*path, "protocol"), name) for name in groups] if len(groups) == 1 else []
    else:
        places = [
            ((*path, "default_action", "forward", index, "target_group"), weighted.target_group)
            for index, weighted in enumerate(action.forward or ())
        ]
    for place, name in places:
        group = groups.get(name)
        if group is not None and (group.protocol == "UDP") != (listener.protocol == "UDP"):
            message = f"a {listener.protocol} listener cannot forward to {name}, whose protocol is"
            advice = "write protocol: UDP there" if listener.protocol == "UDP" else "name another group"
            review.mistake(place, f"{message} {group.protocol or 'TCP'}: {advice}")


def check_target_connections(review: Review, path: Path, group: TargetGroup) -> None:
    if group.protocol == "UDP" and group.proxy_protocol == "v1":
        review.mistake((*path, "proxy_protocol"), "v1 is for TCP alone: write v2")
    if group.proxy_protocol is not None and group.protocol_version != "HTTP1":
        message = "is for connections of one client, and HTTP/2 shares them: leave it out, X-Forwarded-For says it"
        review.mistake((*path, "proxy_protocol"), message)
    has_unix = False
    for index, target in enumerate(group.targets):
        if target.ip is None or not is_unix(target.ip):
            continue
        has_unix = True
        place = (*path, "targets", index)
        if target.port is not None:
            review.mistake((*place, "port"), "a unix socket has no port: leave it out")
        if group.protocol == "UDP":
            review.mistake((*place, "ip"), "a UDP target needs an address and a port: unix sockets are for streams")
    if has_unix and group.health_check is not None and group.health_check.port is not None:
        message = "a target on a unix socket has no other port: leave it out"
        review.mistake((*path, "health_check", "port"), message)
    _tls(review, (*path, "tls"), group)


def _tls(review: Review, path: Path, group: TargetGroup) -> None:
    tls = group.tls
    if tls is None:
        return
    if group.protocol not in {"HTTPS", "TLS"}:
        if review.sound((*path[:-1], "protocol")):
            review.mistake(path, f"is for HTTPS and TLS, and this group is {group.protocol or 'neither'}", at_key=True)
        return
    if not tls.verify and tls.ca_file is not None:
        review.mistake((*path, "ca_file"), "verifies nobody while verify is false: leave one of the two out")
    if tls.client_certificate is not None:
        place = (*path, "client_certificate")
        if review.configuration.certificates is not None:
            review.reference(place, tls.client_certificate, review.certificates, "certificate")
        elif review.sound(("certificates",)):
            review.mistake(place, f'no certificate is named "{tls.client_certificate}": there is no certificates:')
