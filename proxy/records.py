"""What is written down of a request, a relayed connection, or a denial: the step from live objects to a record.

Called once per event, and only while there is an access log.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .client_certificates import NOBODY, Identity, forwarded_fields, identity
from .firewall import Verdict
from .log_lines import AccessRecord, Format, Kind
from .plan import Asked
from .specs import FixedResponse, Redirect
from .tls import ServerContext, asked_name, chosen_certificate, host_guard
from .usual_lines import Place, Usual

if TYPE_CHECKING:
    from .exchange import Exchange
    from .listener import Listener
    from .server_names import HostGuard
    from .tcp_session import TcpSession
    from .udp_session import UdpFlow, UdpListener


class TlsFacts(NamedTuple):
    """What was agreed on in the handshake, and what follows from it for each request of the connection."""

    protocol: str = ""
    cipher: str = ""
    certificate: str = ""
    guard: HostGuard | None = None
    client_fields: bytes = b""  # who the client is, for the target
    client: Identity = NOBODY
    server_name: str = ""
    alpn: str = ""


NO_TLS = TlsFacts()


def tls_facts(transport: Any) -> TlsFacts:
    """Asked once per connection."""
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return NO_TLS
    cipher, context = connection.cipher(), connection.context
    asked = context.client_certificates if isinstance(context, ServerContext) else None
    return TlsFacts(
        connection.version() or "",
        cipher[0] if cipher else "",
        chosen_certificate(connection) or "",
        host_guard(connection),
        b"" if asked is None else forwarded_fields(connection, asked),
        NOBODY if asked is None else identity(connection, asked),
        asked_name(connection) or "",
        connection.selected_alpn_protocol() or "",
    )


def request_record(listener: Listener, session: Exchange, duration: float) -> AccessRecord:
    now = time.time()
    head, route, group, target = session.head, session.route, session.group, session.target
    action = None if route is None else route.action
    host = head.host if head is not None else b""
    transformed: tuple[bytes, bytes, str] = (b"", b"", "")
    if route is not None and route.edits is not None and group is not None:
        transformed = route.edits.rewritten(session.uri, host)
    tls = session.tls
    redirect_url = b""
    if isinstance(action, Redirect) and head is not None and session.status == action.status:
        asked = Asked(session.method, session.uri, head.host, session.local[1], listener.secure)
        redirect_url = asked.location(action)
    return AccessRecord(
        kind=_kind(listener, session),
        load_balancer=listener.spec.load_balancer,
        listener=listener.spec.key,
        client=f"{session.peer[0]}:{session.peer[1]}",
        created=now - duration,
        time=now,
        received_bytes=session.received,
        sent_bytes=session.sent,
        status=session.status,
        target_status=session.target_status,
        request_time=session.request_time,
        target_time=session.target_time,
        response_time=max(0.0, duration - session.request_time - session.target_time)
        if session.target_time >= 0
        else -1.0,
        method=session.method,
        uri=session.uri,
        version=b"HTTP/1.0" if session.http10 else session.version,
        host=host,
        user_agent=head.user_agent if head is not None else b"",
        request_id=session.request_id,
        connection_id=session.connection_id,
        rule=route.label if route is not None else ("default" if group is not None else ""),
        action=_action(action, forwarded=group is not None),
        target_group=group.name if group is not None else "",
        target=target.key if target is not None else "",
        redirect_url=redirect_url,
        tls_protocol=tls.protocol,
        tls_cipher=tls.cipher,
        server_name=tls.server_name,
        certificate=tls.certificate,
        alpn=tls.alpn,
        client_verification=tls.client.verification,
        client_subject=tls.client.subject,
        client_issuer=tls.client.issuer,
        client_serial=tls.client.serial,
        reason=session.reason,
        denied_by=session.denied_by,
        transformed_host=transformed[0],
        transformed_uri=transformed[1],
        transform_status=transformed[2],
    )


def usual_record(listener: Listener, session: Exchange, duration: float, format: Format) -> Usual | None:
    """The same where nothing about the request is unusual, else None."""
    status = session.status
    request_time, target_time = session.request_time, session.target_time
    if (
        session.target_status != status
        or status == 101
        or session.reason
        or session.denied_by
        or not session.request_id
        or request_time < 0
        or target_time < 0
        or session.version != b"HTTP/1.1"
    ):
        return None
    head, route, group, target = session.head, session.route, session.group, session.target
    if head is None or route is None or route.edits is not None or group is None or target is None:
        return None
    place = session.place
    if place is None or place.format != format or place.spec is not listener.spec:
        place = session.place = Place(request_record(listener, session, duration), format, listener.spec)
    return (
        time.time(),
        duration,
        session.received,
        session.sent,
        status,
        request_time,
        target_time,
        session.method,
        session.uri,
        b"HTTP/1.0" if session.http10 else b"HTTP/1.1",
        session.request_id,
        head,
        route,
        group,
        target,
        place,
    )


def _kind(listener: Listener, session: Exchange) -> Kind:
    """ALB's words, which tell versions of HTTP apart over TLS alone."""
    if session.status == 101:
        return "wss" if listener.secure else "ws"
    if not listener.secure:
        return "http"
    if session.version != b"HTTP/2.0":
        return "https"
    group = session.group
    return "grpcs" if group is not None and group.spec.protocol_version == "GRPC" else "h2"


def _action(action: object, *, forwarded: bool) -> Any:
    if isinstance(action, Redirect):
        return "redirect"
    if isinstance(action, FixedResponse):
        return "fixed-response"
    return "forward" if forwarded or action is not None else ""


def connection_record(listener: Listener, session: TcpSession, duration: float) -> AccessRecord:
    now = time.time()
    relay = session.relay
    tls = session.tls
    return AccessRecord(
        kind="tls" if listener.secure else "tcp",
        load_balancer=listener.spec.load_balancer,
        listener=listener.spec.key,
        client=f"{session.peer[0]}:{session.peer[1]}",
        created=now - duration,
        time=now,
        received_bytes=relay.client.received,
        sent_bytes=relay.target_end.received,
        request_time=session.connect_time,
        action="forward",
        rule="default",
        target_group=session.group.name if session.group is not None else "",
        target=session.target.key if session.target is not None else "",
        tls_protocol=tls.protocol,
        tls_cipher=tls.cipher,
        server_name=tls.server_name,
        certificate=tls.certificate,
        alpn=tls.alpn,
        client_verification=tls.client.verification,
        client_subject=tls.client.subject,
        client_issuer=tls.client.issuer,
        client_serial=tls.client.serial,
        reason=relay.reason,
        denied_by=session.denied_by,
    )


def denial_record(listener: Listener | UdpListener, source: tuple[str, int], verdict: Verdict) -> AccessRecord:
    return refusal_record(listener, source, "denied", verdict.rule)


def refusal_record(
    listener: Listener | UdpListener, source: tuple[str, int], reason: str, denied_by: str = ""
) -> AccessRecord:
    """Of a connection that did not become one."""
    now = time.time()
    kind: Any = listener.spec.protocol.lower()
    return AccessRecord(
        kind=kind,
        load_balancer=listener.spec.load_balancer,
        listener=listener.spec.key,
        client=f"{source[0]}:{source[1]}",
        created=now,
        time=now,
        reason=reason,
        denied_by=denied_by,
    )


def flow_record(listener: UdpListener, flow: UdpFlow, duration: float) -> AccessRecord:
    now = time.time()
    return AccessRecord(
        kind="udp",
        load_balancer=listener.spec.load_balancer,
        listener=listener.spec.key,
        client=f"{flow.peer[0]}:{flow.peer[1]}",
        created=now - duration,
        time=now,
        received_bytes=flow.received,
        sent_bytes=flow.sent,
        action="forward",
        rule="default",
        target_group=flow.target.group.name,
        target=flow.target.key,
        reason=flow.reason,
    )
