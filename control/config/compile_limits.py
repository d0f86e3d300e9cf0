"""Timeouts, limits, retries and stickiness as the proxy wants them. Pure."""

from __future__ import annotations

from ...proxy.limit_specs import RateLimitSpec
from ...proxy.specs import GroupLimits, ListenerLimits, ProcessLimits, RetrySpec, StickinessSpec
from . import models_limits as models

DEFAULT_COOKIE = "AWSALB"
DEFAULT_STATUSES = (502, 503, 504)


def listener_limits(timeouts: models.ListenerTimeouts, limits: models.ListenerLimits) -> ListenerLimits:
    return ListenerLimits(
        proxy_header_timeout=timeouts.proxy_header,
        tls_handshake_timeout=timeouts.tls_handshake,
        first_byte_timeout=timeouts.first_byte,
        head_timeout=timeouts.request_head,
        idle_timeout=timeouts.idle,
        request_timeout=timeouts.request,
        keep_alive_timeout=timeouts.keep_alive,
        max_age=timeouts.connection_age,
        tunnel_timeout=timeouts.tunnel,
        relay_timeout=timeouts.relay,
        flow_timeout=timeouts.flow,
        linger_timeout=timeouts.linger,
        request_line=limits.request_line,
        field=limits.header_field,
        head=limits.request_head,
        fields=limits.header_fields,
        forwarded_for=limits.forwarded_for,
        body=limits.body,
        body_rate=limits.body_rate,
        body_rate_grace=limits.body_rate_grace,
        ahead=limits.ahead,
        linger=limits.linger,
        buffer=limits.buffer,
        chunk_extension=limits.chunk_extension,
        trailer=limits.trailer,
        trailer_fields=limits.trailer_fields,
        backlog=limits.backlog,
        connections=limits.connections,
        connections_per_source=limits.connections_per_source,
        flows=limits.flows,
        rates=tuple(map(_rate, limits.rates)),
        http2_max_streams=limits.http2_max_streams,
        http2_stream_window=limits.http2_stream_window,
        http2_connection_window=limits.http2_connection_window,
        http2_max_resets=limits.http2_max_resets,
        http2_max_control_frames=limits.http2_max_control_frames,
        filter_timeout=timeouts.filter,
    )


def process_limits(limits: models.ProcessLimits) -> ProcessLimits:
    return ProcessLimits(limits.connections, limits.descriptors)


def _rate(limit: models.RateLimit) -> RateLimitSpec:
    burst = limit.requests if limit.burst is None else limit.burst
    return RateLimitSpec(limit.by, limit.requests / limit.per, burst, (limit.header or "").lower())


def group_limits(timeouts: models.GroupTimeouts, limits: models.GroupLimits) -> GroupLimits:
    return GroupLimits(
        connect_timeout=timeouts.connect,
        response_timeout=timeouts.response,
        keep_alive_timeout=timeouts.keep_alive,
        keep_alive_margin=timeouts.keep_alive_margin,
        response_head=limits.response_head,
        interim=limits.interim,
        buffer=limits.buffer,
        connections=limits.connections,
        queue=limits.queue,
        queue_timeout=timeouts.queue,
    )


def retries(retries: models.Retries) -> RetrySpec:
    return RetrySpec(
        attempts=retries.attempts,
        statuses=DEFAULT_STATUSES if retries.statuses is None else retries.statuses,
        budget_percent=retries.budget,
        budget_minimum=retries.budget_minimum,
        backoff=retries.backoff,
        backoff_limit=retries.backoff_limit,
    )


def stickiness(stickiness: models.Stickiness) -> StickinessSpec:
    return StickinessSpec(stickiness.type, stickiness.duration, stickiness.cookie_name or DEFAULT_COOKIE)
