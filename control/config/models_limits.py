"""Timeouts, limits, retries and stickiness: what one client may take of a listener, and what a target is given.

The defaults are those of the proxy's own specs, so that a file that says nothing and a program that says nothing mean
the same. The docstrings below each key become the descriptions of the JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from .model_base import Model
from .scalars import CookieName, GatewayStatuses, Token, duration, size, whole

HOUR: Final = 3600.0
DAY: Final = 86400.0
KIB: Final = 1024
MIB: Final = 1024 * 1024
MILLION: Final = 1_000_000

Timeout = Annotated[float, *duration(0.1, DAY)]
TimeoutOrOff = Annotated[float, *duration(0, DAY)]
StickyFor = Annotated[float, *duration(1, 7 * DAY, whole_seconds=True)]
Buffer = Annotated[int, *size(4 * KIB, 64 * MIB)]


class ListenerTimeouts(Model):
    """Seconds are counted by a clock that ticks once a second."""

    proxy_header: Timeout = 5.0
    """From accept to the end of a PROXY protocol header; a proxy sends it with its first packet."""
    tls_handshake: Timeout = 10.0
    """From accept to the end of the handshake; ALB's figure."""
    first_byte: Timeout = 30.0
    """From there to the first byte; browsers connect ahead of need."""
    request_head: Timeout = 10.0
    """From a head's first byte to its last; what HAProxy's guides advise against slow senders."""
    idle: Timeout = 60.0
    """A gap in a request's body or an answer's; ALB's idle timeout."""
    request: TimeoutOrOff = 0.0
    """The whole request, answer and all. 0: no limit, for it would cut long answers."""
    keep_alive: Timeout = 75.0
    """Between two requests of one connection; nginx's default."""
    connection_age: TimeoutOrOff = 3600.0
    """Then a connection ends after its request, give or take 10 %; ALB's default. 0: no limit."""
    tunnel: Timeout = 3600.0
    """A WebSocket on which nothing moves; Envoy's default."""
    relay: Timeout = 350.0
    """A TCP or TLS connection on which nothing moves; NLB's default."""
    flow: Timeout = 120.0
    """A UDP flow in which nothing moves; NLB's default."""
    linger: Annotated[float, *duration(0, 60)] = 5.0
    """How long a body is read on after an early answer, so that a reset does not eat it; nginx's default."""
    filter: Annotated[float, *duration(0.01, HOUR)] = 5.0
    """One phase of its filters, all of them together; then 504."""


class RateLimit(Model):
    by: Literal["source", "header", "path"]
    """What is counted apart: each client address (IPv6: each /64), each value of a header, each path without query."""
    header: Token | None = None
    """The header, where `by` says so; requests without it are not counted."""
    requests: Annotated[int, *whole(1, MILLION)]
    """How many requests."""
    per: Annotated[float, *duration(0.001, DAY)] = 1.0
    """In which time, on average."""
    burst: Annotated[int, *whole(1, MILLION)] | None = None
    """How many may come at once after a pause. Left out: as `requests`."""


class ListenerLimits(Model):
    """Sizes are 64KiB, 1MiB or bytes. More than a limit is refused, with a counter and a reason of its own."""

    request_line: Annotated[int, *size(KIB, MIB)] = 16 * KIB
    """Longer: 414; ALB's limit, as the next two."""
    header_field: Annotated[int, *size(KIB, MIB)] = 16 * KIB
    """One header line; longer: 431."""
    request_head: Annotated[int, *size(KIB, 4 * MIB)] = 64 * KIB
    """All header lines together; longer: 431."""
    header_fields: Annotated[int, *whole(1, 10_000)] = 100
    """More: 431; Envoy's default."""
    forwarded_for: Annotated[int, *whole(1, 1000)] = 30
    """Addresses in X-Forwarded-For; more: 463, as ALB."""
    body: Annotated[int, *size(0, 1 << 50)] = 0
    """Longer: 413. 0: no limit, for a limit that nobody asked for surprises whoever uploads."""
    body_rate: Annotated[int, *size(0, 1 << 30)] = 240
    """Bytes per second that a body must come with on average; slower: 408. Kestrel's default. 0: no limit."""
    body_rate_grace: Annotated[float, *duration(0, HOUR)] = 10.0
    """From when on that is judged."""
    ahead: Buffer = 64 * KIB
    """What is read of a client before its turn."""
    linger: Annotated[int, *size(0, 64 * MIB)] = 64 * KIB
    """How much is read on of a body that nobody wants."""
    buffer: Buffer = 64 * KIB
    """What is held for a client that reads slowly, before its target is not read from any more."""
    chunk_extension: Annotated[int, *size(0, 64 * KIB)] = 256
    """Behind the size of each chunk of a body; longer: 400."""
    trailer: Annotated[int, *size(0, MIB)] = 8 * KIB
    """All fields after a body together; longer: 400."""
    trailer_fields: Annotated[int, *whole(0, 10_000)] = 20
    """More: 400."""
    backlog: Annotated[int, *whole(1, 65_535)] = 4096
    """Connections that the kernel holds until they are accepted; its own net.core.somaxconn caps it."""
    connections: Annotated[int, *whole(0, MILLION)] = 0
    """At once; more are closed. 0: no limit. Of each worker, as the next."""
    connections_per_source: Annotated[int, *whole(0, MILLION)] = 0
    """At once of one address (IPv6: one /64); more are closed. 0: no limit."""
    flows: Annotated[int, *whole(1, MILLION)] = 8192
    """Of a UDP listener at once, of each worker; beyond it the one that was silent longest ends."""
    rates: tuple[RateLimit, ...] = ()
    """Requests per time; more: 429 with Retry-After. A request must pass each of them. Of each worker."""
    http2_max_streams: Annotated[int, *whole(1, 10_000)] = 128
    """Requests that an HTTP/2 connection may have under way; ALB's. More are refused with REFUSED_STREAM."""
    http2_stream_window: Annotated[int, *size(64 * KIB, 16 * MIB)] = 64 * KIB
    """What a client may send ahead on one stream; Envoy's advice for the edge."""
    http2_connection_window: Annotated[int, *size(64 * KIB, 64 * MIB)] = MIB
    """The same on all streams of a connection together."""
    http2_max_resets: Annotated[int, *whole(1, MILLION)] = 100
    """Streams that are reset in a minute; more ends the connection."""
    http2_max_control_frames: Annotated[int, *whole(1, MILLION)] = 600
    """Frames that only make work (pings, settings, empty data) in a minute; more ends the connection."""


class RuleTimeouts(Model):
    request: TimeoutOrOff | None = None
    """The whole request, answer and all. Left out: the listener's. 0: no limit."""


class RuleLimits(Model):
    body: Annotated[int, *size(0, 1 << 50)] | None = None
    """Longer: 413. Left out: the listener's. 0: no limit."""


class ProcessLimits(Model):
    """What the whole process takes, or with `workers` each of them; more is refused, each with a reason of its own."""

    connections: Annotated[int, *whole(0, MILLION)] = 0
    """Of clients, on all listeners together, UDP flows too; more are closed. 0: no limit."""
    descriptors: Annotated[int, *whole(10, 100)] = 90
    """Percent of the file descriptors. When more are in use new clients get 503 or are closed. 100: no limit."""


class GroupTimeouts(Model):
    connect: Timeout = 5.0
    """To a connection, TLS and all; Envoy's default."""
    response: Timeout = 60.0
    """To the first byte of the answer; later: 504. ALB's idle timeout."""
    keep_alive: Annotated[float, *duration(0, DAY)] = 55.0
    """How long an idle connection is kept: less than the target's own limit, so that the target never closes first."""
    keep_alive_margin: Annotated[float, *duration(0, HOUR)] = 5.0
    """How much less, where the target says its limit in Keep-Alive."""
    queue: Annotated[float, *duration(0, HOUR)] = 1.0
    """How long a request waits for a target that is full; longer: 503."""


class GroupLimits(Model):
    connections: Annotated[int, *whole(1, MILLION)] = 1024
    """To each target at once, from each worker; Envoy's default."""
    queue: Annotated[int, *whole(0, MILLION)] = 128
    """Requests that wait for each target when every target is full; more: 503."""
    response_head: Annotated[int, *size(4 * KIB, 4 * MIB)] = 64 * KIB
    """Of an answer; longer: 502."""
    interim: Annotated[int, *whole(0, 1000)] = 16
    """Answers of 1xx before the final one; more: 502."""
    buffer: Buffer = 64 * KIB
    """What is held for a target that reads slowly, before its client is not read from any more."""


class Retries(Model):
    """Only requests that may be repeated (GET, HEAD, OPTIONS, PUT, DELETE), only while nothing of an answer went on."""

    attempts: Annotated[int, *whole(0, 10)] = 1
    """How many other targets are tried; Envoy's default."""
    statuses: GatewayStatuses | None = None
    """Answers that are as good as none. Left out: 502, 503, 504."""
    budget: Annotated[int, *whole(0, 100)] = 20
    """Percent of the requests in flight that may be repetitions; Envoy's default."""
    budget_minimum: Annotated[int, *whole(0, MILLION)] = 3
    """So many may be, however few are in flight; Envoy's default."""
    backoff: Annotated[float, *duration(0, 60)] = 0.025
    """The pause is drawn between 0 and twice this, then four times, and so on; Envoy's default."""
    backoff_limit: Annotated[float, *duration(0, 60)] = 0.25
    """But never above this."""


class Stickiness(Model):
    type: Literal["lb_cookie", "app_cookie", "source_ip"]
    """lb_cookie: by a cookie of ours; app_cookie: while the application's own is there; source_ip: by address."""
    duration: StickyFor = DAY
    """How long a client may stay away; ALB's default. Not for source_ip."""
    cookie_name: CookieName | None = None
    """For app_cookie the application's. For lb_cookie left out: AWSALB; another where an ALB stands before us."""
