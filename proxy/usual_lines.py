"""The line of a usual request, put together from pieces that were quoted before.

Most requests are forwarded, answered by their target, and say nothing that the request before on their connection did
not say. Their lines are byte for byte those of `json_line` and `alb_line`, at a third of the cost: what belongs to the
connection is quoted once for it, what belongs to a route once for that, and one format puts them together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .log_lines import (
    REMEMBERED_TEXTS,
    alb_user_agent,
    bare,
    day_and_second,
    json_fields,
    json_request,
    json_route,
    quote_hex,
    quote_json,
    quoted,
    requested_origin,
)

if TYPE_CHECKING:
    from .http1 import RequestHead
    from .log_lines import AccessRecord, Format
    from .plan import Route
    from .specs import ListenerSpec
    from .targets import Target, TargetGroup


# A forwarded request that its target answered, as a bare tuple, which costs a fifth of an object with names: time,
# duration, received and sent bytes, status, request and target time (all as in `AccessRecord`), method, URI, version,
# request id, head, route, group, target, place.
Usual = tuple[
    float, float, int, int, int, float, float, bytes, bytes, bytes, bytes,
    "RequestHead", "Route", "TargetGroup", "Target", "Place",
]  # fmt: skip


class Place:
    """A client's connection, as lines begin and end with it. `like` is the record of any request on it."""

    __slots__ = ("connection", "first", "format", "last", "listener", "middle", "secure", "spec")

    def __init__(self, like: AccessRecord, format: Format, spec: ListenerSpec) -> None:
        self.format = format
        self.spec = spec  # that it was made under
        self.secure = like.kind != "http"
        self.listener = like.listener
        if format == "json":
            self.first = json_fields(
                ("type", like.kind), ("load_balancer", like.load_balancer), ("listener", like.listener)
            ) + b',"client":"%b"' % quote_json(like.client.encode())
            self.middle = json_fields(("connection_id", like.connection_id))
            self.last = json_fields(
                ("tls_protocol", like.tls_protocol),
                ("tls_cipher", like.tls_cipher),
                ("server_name", like.server_name),
                ("certificate", like.certificate),
                ("alpn", like.alpn),
                ("client_certificate", like.client_verification),
                ("client_subject", like.client_subject),
                ("client_issuer", like.client_issuer),
                ("client_serial", like.client_serial),
            )
            if not (like.tls_protocol or like.server_name or like.client_verification):
                self.last = b""
            self.connection = b""
        else:
            self.first = b"%b %b" % (bare(like.load_balancer), bare(like.client))
            self.middle = b"%b %b" % (bare(like.tls_cipher), bare(like.tls_protocol))
            self.last = b'"%b" "%b"' % (quoted(like.server_name), quoted(like.certificate))
            self.connection = bare(like.connection_id)


_JSON = (
    b'{"time":"%b.%06dZ"%b,"duration":%.6f,"received_bytes":%d,"sent_bytes":%d,"status":%d%b,"uri":"%b",'
    b'"request_id":"%b"%b%b,"target_status":%d,"request_time":%.6f,"target_time":%.6f,"response_time":%.6f%b}\n'
)


def usual_json(usual: Usual) -> bytes:
    (now, duration, received, sent, status, request_time, target_time, method, uri, version, request_id, head, route,
     group, target, place) = usual  # fmt: skip
    seconds, micros = divmod(round(now * 1_000_000), 1_000_000)
    return _JSON % (
        day_and_second(seconds),
        micros,
        place.first,
        now - (now - duration),  # as from the record's two times, rounding and all
        received,
        sent,
        status,
        json_request(method, head.host, version, head.user_agent),
        quote_json(uri),
        quote_json(request_id),
        place.middle,
        json_route(route.label, "forward", group.name, target.key),
        status,
        request_time,
        target_time,
        max(0.0, duration - request_time - target_time),
        place.last,
    )


_ALB = (
    b'%b %b.%06dZ %b %b %.3f %.3f %.3f %d %d %d %d "%b %b%b %b" "%b" %b %b "%b" %b %b %b.%06dZ "forward" "-" "-" "%b" '
    b'"%d" "-" "-" %b "-" "-" "-"\n'
)


@lru_cache(REMEMBERED_TEXTS)
def _names(rule: str, group: str, target: str) -> tuple[bytes, bytes, bytes]:
    return b"0" if rule == "default" else bare(rule), bare(group), bare(target)


def usual_alb(usual: Usual) -> bytes:
    (now, duration, received, sent, status, request_time, target_time, method, uri, version, request_id, head, route,
     group, target, place) = usual  # fmt: skip
    seconds, micros = divmod(round(now * 1_000_000), 1_000_000)
    first_seconds, first_micros = divmod(round((now - duration) * 1_000_000), 1_000_000)
    rule, group_name, target_name = _names(route.label, group.name, target.key)
    return _ALB % (
        b"https" if place.secure else b"http",
        day_and_second(seconds),
        micros,
        place.first,
        target_name,
        request_time,
        target_time,
        max(0.0, duration - request_time - target_time),
        status,
        status,
        received,
        sent,
        quote_hex(method),
        requested_origin(place.secure, head.host, place.listener) if uri.startswith(b"/") else b"",
        quote_hex(uri),
        version,
        alb_user_agent(head.user_agent),
        place.middle,
        group_name,
        quote_hex(request_id),
        place.last,
        rule,
        day_and_second(first_seconds),
        first_micros,
        target_name,
        status,
        place.connection,
    )
