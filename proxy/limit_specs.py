"""The limits of a listener, a target group and the process: what each is called, its default, and why it is so.

Times are seconds, sizes are bytes. 0 is no limit where a limit is new; what protects us cannot be turned off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RateLimitSpec:
    """So many requests per second and key, and `burst` at once. The key: who asks, a header's value, or the path."""

    by: Literal["source", "header", "path"]
    rate: float
    burst: int
    header: str = ""  # in lower case, where `by` says so


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What a client may take of a listener: how long, how much, how often. 0 is no limit, where 0 may be said."""

    # From accept to a PROXY header's last byte. A proxy sends it with its first packet; HAProxy and nginx wait as long
    # as for a handshake, Envoy without an end.
    proxy_header_timeout: float = 5.0
    tls_handshake_timeout: float = 10.0  # ALB's
    first_byte_timeout: float = 30.0  # from accept on; browsers connect ahead of need
    head_timeout: float = 10.0  # from a head's first byte to its last; HAProxy's guides, nginx 60 is lax
    idle_timeout: float = 60.0  # a gap in either body; ALB's and nginx's
    request_timeout: float = 0.0  # the whole request; Envoy's 15 s surprise whoever streams
    keep_alive_timeout: float = 75.0  # nginx's
    max_age: float = 3600.0  # of a connection, give or take 10 % so that not all of them come back at once; ALB's
    tunnel_timeout: float = 3600.0  # Envoy's hour, for WebSockets
    relay_timeout: float = 350.0  # NLB's, for TCP and TLS
    flow_timeout: float = 120.0  # NLB's, for UDP; HAProxy has no default, nginx 10 min, Envoy 1 min
    linger_timeout: float = 5.0  # reading on after an early answer, so that a reset does not eat it; nginx's

    request_line: int = 16 * 1024  # ALB's 16, 16 and 64 KiB
    field: int = 16 * 1024
    head: int = 64 * 1024
    fields: int = 100  # Envoy's
    forwarded_for: int = 30  # entries; ALB's
    body: int = 0  # nginx's 1 MiB is the most hated default there is
    body_rate: int = 240  # bytes per second that a body must keep up on average; Kestrel's
    body_rate_grace: float = 10.0
    ahead: int = 64 * 1024  # what a client may send before its turn; then it is not read from
    linger: int = 64 * 1024  # what is read of a body that nobody wants
    buffer: int = 64 * 1024  # what is held for a client that reads slowly; then its target is not read from

    chunk_extension: int = 256  # bytes behind a chunk's size: far above real use (CVE-2023-39326)
    trailer: int = 8 * 1024
    trailer_fields: int = 20

    backlog: int = 4096  # the kernel's somaxconn caps it; HAProxy and nginx ask for as much on busy machines
    connections: int = 0
    connections_per_source: int = 0
    flows: int = 8192  # of UDP; each is a socket. Beyond it the one that was silent longest ends
    rates: tuple[RateLimitSpec, ...] = ()
    filter_timeout: float = 5.0  # one phase of all filters: as long as connecting to whom they ask may take

    http2_max_streams: int = 128  # ALB's
    http2_stream_window: int = 64 * 1024  # Envoy's advice for the edge; never its old default of 256 MiB (envoy#8114)
    http2_connection_window: int = 1024 * 1024
    # Resets cost a client nothing and us a request (CVE-2023-44487), and so do our own (CVE-2025-8671); pings and
    # settings ask for an answer each (CVE-2019-9512, 9515), and empty DATA says nothing (9518). More than this in a
    # minute ends the connection.
    http2_max_resets: int = 100
    http2_max_control_frames: int = 600


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What a target may take, and how much it is given at once."""

    connect_timeout: float = 5.0  # TCP and TLS together; Envoy's, ALB allows 10 s for each
    response_timeout: float = 60.0  # to the answer's first byte; ALB's and nginx's
    # A target must not close a connection that we are about to use: stay below the usual 60 s (nginx 75), or below
    # what the target itself says, by the margin.
    keep_alive_timeout: float = 55.0
    keep_alive_margin: float = 5.0
    response_head: int = 64 * 1024
    interim: int = 16  # 1xx answers before the final one
    buffer: int = 64 * 1024  # what is held for a target that reads slowly; then its client is not read from
    connections: int = 1024  # per target; Envoy's
    queue: int = 128  # requests per target that wait for one of them
    queue_timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What all listeners of one process take together."""

    connections: int = 0  # at once, UDP flows too; 0 is no limit
    # Percent of the file descriptors; with more in use nothing new is begun, so that what is under way finds some.
    descriptors: int = 90
