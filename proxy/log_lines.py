"""What is known of a request or connection when it is over, and the line that is made of it: ALB's, or JSON.

What clients sent is quoted so that no byte of it can end a field or a line. In ALB's format that is `\\xHH` for quotes,
backslashes and all that is not printable ASCII (nginx's default too); in JSON `\\u00HH`, so that a reader who encodes
the string as Latin-1 has the client's very bytes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["http", "https", "h2", "grpcs", "ws", "wss", "tcp", "tls", "udp"]
Format = Literal["json", "alb"]

USER_AGENT_LIMIT = 8192  # ALB truncates there
# Remembered texts per cache: names from the configuration, user agents, hosts. Clients choose some, so it is bounded.
REMEMBERED_TEXTS = 2048


@dataclass(slots=True)
class AccessRecord:
    """What happened to one request, or to one TCP or TLS connection. Empty means: does not apply or never came.

    Times are seconds since the epoch, durations seconds, -1 where the step was not reached. Bytes are the client's own.
    """

    kind: Kind
    load_balancer: str
    listener: str  # ListenerSpec.key
    client: str  # address:port
    created: float
    time: float
    received_bytes: int = 0
    sent_bytes: int = 0
    status: int = 0
    target_status: int = 0
    request_time: float = -1.0  # until the request was sent to a target
    target_time: float = -1.0  # until the target's response head came
    response_time: float = -1.0  # until the response was begun to the client
    method: bytes = b""
    uri: bytes = b""  # the request line's target, query and all
    version: bytes = b""
    host: bytes = b""
    user_agent: bytes = b""
    request_id: bytes = b""
    connection_id: str = ""  # the same in all records of one client connection
    rule: str = ""  # CompiledRule.label
    action: Literal["", "forward", "redirect", "fixed-response"] = ""
    target_group: str = ""
    target: str = ""  # TargetSpec.key
    redirect_url: bytes = b""
    tls_protocol: str = ""
    tls_cipher: str = ""
    server_name: str = ""  # SNI
    certificate: str = ""
    reason: str = ""  # why it failed: the word that counters have too
    denied_by: str = ""  # Verdict.rule
    classification: str = ""  # ALB's desync classes
    classification_reason: str = ""
    alpn: str = ""
    client_subject: str = ""  # of the certificate that the client showed
    client_issuer: str = ""
    client_serial: str = ""
    client_verification: Literal["", "verified", "unverified"] = ""  # empty: it showed none, or was asked for none
    transformed_host: bytes = b""  # where a rule's transforms changed it
    transformed_uri: bytes = b""
    transform_status: str = ""


# In quotes, printable ASCII but `"` and `\` stands as it is; without quotes a space would end the field.
_UNQUOTABLE = re.compile(rb"[^ !#-\[\]-~]")
_NOT_BARE = re.compile(rb"[^!#-\[\]-~]")
_needs_quoting = _UNQUOTABLE.search


def quote_hex(text: bytes) -> bytes:
    if _needs_quoting(text) is None:
        return text
    return _UNQUOTABLE.sub(lambda byte: b"\\x%02X" % byte[0][0], text)


def quote_json(text: bytes) -> bytes:
    if _needs_quoting(text) is None:
        return text
    return _UNQUOTABLE.sub(lambda byte: b"\\u%04x" % byte[0][0], text)


@lru_cache(REMEMBERED_TEXTS)
def alb_user_agent(text: bytes) -> bytes:
    return quote_hex(text[:USER_AGENT_LIMIT]) or b"-"


@lru_cache(REMEMBERED_TEXTS)
def bare(text: str) -> bytes:
    return _NOT_BARE.sub(lambda byte: b"\\x%02X" % byte[0][0], text.encode()) or b"-"


@lru_cache(REMEMBERED_TEXTS)
def quoted(text: str) -> bytes:
    return quote_hex(text.encode()) or b"-"


@lru_cache(8)  # the two of a line are mostly the same second, and the lines of a batch few different ones
def day_and_second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


def timestamp(moment: float) -> bytes:
    """ISO 8601 in UTC with microseconds, as ALB: 2018-07-02T22:23:00.186641Z."""
    seconds, micros = divmod(round(moment * 1_000_000), 1_000_000)
    return b"%b.%06dZ" % (day_and_second(seconds), micros)


def _alb_seconds(duration: float) -> bytes:
    return b"%.3f" % duration if duration >= 0 else b"-1"


@lru_cache(REMEMBERED_TEXTS)
def requested_origin(secure: bool, host: bytes, listener: str) -> bytes:
    """ALB logs protocol://host:port, the port being the listener's whatever the client wrote."""
    port = listener.rpartition(":")[2].encode()
    name = re.sub(rb":[0-9]*\Z", b"", host) or listener.rpartition(":")[0].encode()
    return quote_hex(b"%b://%b:%b" % (b"https" if secure else b"http", name, port))


def _request_line(record: AccessRecord) -> bytes:
    if not record.method:
        return b"- - -"
    uri = quote_hex(record.uri)
    if uri.startswith(b"/"):
        uri = requested_origin(record.kind not in ("http", "ws"), record.host, record.listener) + uri
    return b"%b %b %b" % (quote_hex(record.method), uri, quote_hex(record.version))


_ALB_LINE = (
    b'%b %b %b %b %b %b %b %b %b %b %d %d "%b" "%b" %b %b %b "%b" "%b" "%b" %b %b '
    b'"%b" "%b" "%b" "%b" "%b" "%b" "%b" %b "%b" "%b" "%b"\n'
)


def alb_line(record: AccessRecord) -> bytes:
    """The 33 fields of ALB's access log in its order; a denied connection's rule stands as its error reason."""
    target = bare(record.target)
    target_status = b"%d" % record.target_status if record.target_status else b"-"
    return _ALB_LINE % (
        record.kind.encode(),
        timestamp(record.time),
        bare(record.load_balancer),
        bare(record.client),
        target,
        _alb_seconds(record.request_time),
        _alb_seconds(record.target_time),
        _alb_seconds(record.response_time),
        b"%d" % record.status if record.status else b"-",
        target_status,
        record.received_bytes,
        record.sent_bytes,
        _request_line(record),
        alb_user_agent(record.user_agent),
        bare(record.tls_cipher),
        bare(record.tls_protocol),
        bare(record.target_group),
        quote_hex(record.request_id) or b"-",
        quoted(record.server_name),
        quoted(record.certificate),
        b"0" if record.rule == "default" else bare(record.rule),
        timestamp(record.created),
        quoted(record.action),
        quote_hex(record.redirect_url) or b"-",
        quoted(f"{record.reason}:{record.denied_by}" if record.denied_by else record.reason),
        target,
        target_status,
        quoted(record.classification),
        quoted(record.classification_reason),
        bare(record.connection_id),
        quote_hex(record.transformed_host) or b"-",
        quote_hex(record.transformed_uri) or b"-",
        quoted(record.transform_status),
    )


@lru_cache(REMEMBERED_TEXTS)
def json_fields(*named: tuple[str, str]) -> bytes:
    """`,"name":"value"` for those that have a value."""
    return b"".join(b',"%b":"%b"' % (name.encode(), quote_json(text.encode())) for name, text in named if text)


@lru_cache(REMEMBERED_TEXTS)
def _json_place(kind: str, load_balancer: str, listener: str) -> bytes:
    return json_fields(("type", kind), ("load_balancer", load_balancer), ("listener", listener))


@lru_cache(REMEMBERED_TEXTS)
def json_route(rule: str, action: str, target_group: str, target: str) -> bytes:
    return json_fields(("rule", rule), ("action", action), ("target_group", target_group), ("target", target))


@lru_cache(REMEMBERED_TEXTS)
def json_request(method: bytes, host: bytes, version: bytes, user_agent: bytes) -> bytes:
    """What a client says the same way in every request, quoted once."""
    texts = (method, host, version, user_agent[:USER_AGENT_LIMIT])
    return b',"method":"%b","host":"%b","version":"%b","user_agent":"%b"' % tuple(map(quote_json, texts))


def json_line(record: AccessRecord) -> bytes:
    """One JSON object; names that do not apply are left out, so a relayed connection has no method and no status."""
    line = b'{"time":"%b"%b,"client":"%b","duration":%.6f,"received_bytes":%d,"sent_bytes":%d' % (
        timestamp(record.time),
        _json_place(record.kind, record.load_balancer, record.listener),
        quote_json(record.client.encode()),
        max(0.0, record.time - record.created),  # the clock of the day may have been set back between
        record.received_bytes,
        record.sent_bytes,
    )
    if record.status:
        line += b',"status":%d' % record.status
    if record.method:
        line += json_request(record.method, record.host, record.version, record.user_agent)
        line += b',"uri":"%b"' % quote_json(record.uri)
    if record.request_id:
        line += b',"request_id":"%b"' % quote_json(record.request_id)
    if record.connection_id:
        line += json_fields(("connection_id", record.connection_id))
    line += json_route(record.rule, record.action, record.target_group, record.target)
    if record.target_status:
        line += b',"target_status":%d,"request_time":%.6f,"target_time":%.6f,"response_time":%.6f' % (
            record.target_status,
            record.request_time,
            record.target_time,
            record.response_time,
        )
    elif record.request_time >= 0:  # sent, and never answered
        line += b',"request_time":%.6f' % record.request_time
    if record.redirect_url:
        line += b',"redirect_url":"%b"' % quote_json(record.redirect_url)
    if record.tls_protocol or record.server_name:
        line += json_fields(
            ("tls_protocol", record.tls_protocol),
            ("tls_cipher", record.tls_cipher),
            ("server_name", record.server_name),
            ("certificate", record.certificate),
            ("alpn", record.alpn),
        )
    if record.client_verification:
        line += json_fields(
            ("client_certificate", record.client_verification),
            ("client_subject", record.client_subject),
            ("client_issuer", record.client_issuer),
            ("client_serial", record.client_serial),
        )
    if record.transform_status:
        if record.transformed_host:
            line += b',"transformed_host":"%b"' % quote_json(record.transformed_host)
        if record.transformed_uri:
            line += b',"transformed_uri":"%b"' % quote_json(record.transformed_uri)
        line += json_fields(("transform_status", record.transform_status))
    if record.reason or record.denied_by or record.classification:
        line += json_fields(
            ("reason", record.reason),
            ("denied_by", record.denied_by),
            ("classification", record.classification),
            ("classification_reason", record.classification_reason),
        )
    return line + b"}\n"
