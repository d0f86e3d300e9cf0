"""Timeouts, limits, retries and stickiness: from the file to the proxy's specs, and the key that signs cookies."""

from __future__ import annotations

import stat
from dataclasses import fields
from pathlib import Path

import pytest

from penstock.control.config import ConfigurationError
from penstock.control.config.sticky_key import kept_key
from penstock.proxy.limit_specs import RateLimitSpec
from penstock.proxy.specs import (
    Forward,
    GroupLimits,
    ListenerLimits,
    ProcessLimits,
    RetrySpec,
    StickinessSpec,
    TargetGroupSpec,
    WeightedGroup,
)
from support.loaded import loaded, mistakes, settings

PLAIN = """
load_balancer:
  name: lb
  listeners: [{port: 8080, protocol: HTTP}]
  target_groups: [{name: tg}]
"""


def with_listener(keys: str, protocol: str = "HTTP") -> str:
    kind = "application" if protocol == "HTTP" else "network"
    return PLAIN.replace("name: lb", f"name: lb\n  type: {kind}").replace("HTTP}", f"{protocol}, {keys}}}")


def with_group(keys: str, kind: str = "application") -> str:
    protocol = "HTTP" if kind == "application" else "TCP"
    return (
        PLAIN.replace("name: lb", f"name: lb\n  type: {kind}")
        .replace("HTTP}", f"{protocol}}}")
        .replace("tg}", f"tg, {keys}}}")
    )


def test_a_file_that_says_nothing_means_the_specs_defaults() -> None:
    proxy = settings(PLAIN).proxy
    assert proxy.listeners[0].limits == ListenerLimits()
    assert proxy.target_groups == (TargetGroupSpec("tg"),)
    assert proxy.sticky_key == b""


def test_every_key_reaches_its_place() -> None:
    [listener] = settings(
        with_listener(
            "timeouts: {first_byte: 2s, request_head: 3s, idle: 4s, request: 5s, keep_alive: 6s,"
            " connection_age: 7s, tunnel: 8s, linger: 11s, proxy_header: 12s, filter: 14s},"
            " proxy_protocol: {trusted: [10.0.0.0/8]},"
            " limits: {request_line: 1K, header_field: 2KiB, request_head: 3KiB, header_fields: 4, forwarded_for: 5,"
            " body: 6MiB, body_rate: 7, body_rate_grace: 8s, ahead: 9KiB, linger: 10KiB, buffer: 11KiB,"
            " chunk_extension: 1, trailer: 2, trailer_fields: 3, backlog: 4,"
            " connections: 12, connections_per_source: 13,"
            " http2_max_streams: 1, http2_stream_window: 256KiB, http2_connection_window: 128KiB, http2_max_resets: 4,"
            " http2_max_control_frames: 5,"
            " rates: [{by: header, header: X-Key, requests: 60, per: 1m, burst: 5}, {by: source, requests: 9}]}"
        )
    ).proxy.listeners
    assert listener.limits == ListenerLimits(
        *(12.0, 10.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 350.0, 120.0, 11.0),
        *(1024, 2048, 3072, 4, 5, 6 << 20, 7, 8.0, 9216, 10240, 11264, 1, 2, 3, 4, 12, 13, 8192),
        (RateLimitSpec("header", 1.0, 5, "x-key"), RateLimitSpec("source", 9.0, 9)),
        14.0,
        *(1, 256 << 10, 128 << 10, 4, 5),
    )
    assert settings(with_listener("timeouts: {relay: 9s}", "TCP")).proxy.listeners[0].limits.relay_timeout == 9.0
    flows = with_listener("timeouts: {flow: 9s}, limits: {flows: 8}", "UDP")
    limits = settings(flows.replace("{name: tg}", "{name: tg, protocol: UDP}")).proxy.listeners[0].limits
    assert (limits.flow_timeout, limits.flows) == (9.0, 8)
    secure = with_listener("certificate: dev, timeouts: {tls_handshake: 9s}").replace("HTTP,", "HTTPS,")
    assert settings(secure).proxy.listeners[0].limits.tls_handshake_timeout == 9.0
    [group] = settings(
        with_group(
            "timeouts: {connect: 1s, response: 2s, keep_alive: 3s, keep_alive_margin: 4s, queue: 5s},"
            " limits: {connections: 6, queue: 7, response_head: 8KiB, interim: 9, buffer: 10KiB},"
            " retries: {attempts: 2, statuses: 503, budget: 4, budget_minimum: 5, backoff: 6ms, backoff_limit: 7ms},"
            " stickiness: {type: app_cookie, duration: 1m, cookie_name: session}"
        )
    ).proxy.target_groups
    assert group.limits == GroupLimits(1.0, 2.0, 3.0, 4.0, 8192, 9, 10240, 6, 7, 5.0)
    assert group.retries == RetrySpec(2, (503,), 4, 5, 0.006, 0.007)
    assert group.stickiness == StickinessSpec("app_cookie", 60.0, "session")
    for spec in (listener.limits, group.limits, group.retries):
        same = [each.name for each in fields(spec) if getattr(spec, each.name) == getattr(type(spec)(), each.name)]
        others = ["tls_handshake_timeout", "relay_timeout", "flow_timeout", "flows"] if spec is listener.limits else []
        assert same == others, "each was given another value"


def test_a_rule_may_have_limits_of_its_own() -> None:
    rule = "{priority: 1, conditions: {path: [/a]}, action: {forward: tg}%s}"
    text = with_listener(f"rules: [{rule % ', timeouts: {request: 2s}, limits: {body: 3MiB}'}]")
    [spec] = settings(text).proxy.listeners[0].rules
    assert (spec.request_timeout, spec.body_limit) == (2.0, 3 << 20)
    [spec] = settings(with_listener(f"rules: [{rule % ''}]")).proxy.listeners[0].rules
    assert (spec.request_timeout, spec.body_limit) == (None, None)


def test_limits_of_the_process() -> None:
    assert settings(PLAIN).proxy.limits == ProcessLimits(0, 90)
    assert settings(PLAIN + "limits: {connections: 5, descriptors: 80}").proxy.limits == ProcessLimits(5, 80)


def test_stickiness_of_a_weighted_forward() -> None:
    text = PLAIN.replace(
        "HTTP}", "HTTP, default_action: {forward: [tg, {target_group: new, weight: 9}], stickiness: 1h}}"
    ).replace("{name: tg}", "{name: tg}, {name: new}")
    action = settings(text).proxy.listeners[0].default_action
    assert action == Forward((WeightedGroup("tg"), WeightedGroup("new", 9)), 3600.0)


LISTENER = "load_balancer.listeners[0]"
GROUP = "load_balancer.target_groups[0]"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (with_listener("limits: {body: 1MB}"),
         f'{LISTENER}.limits.body: must be a size such as 64KiB, 1MiB or a number of bytes, not "1MB"'),
        (with_listener("limits: {header_field: 1}"),
         f"{LISTENER}.limits.header_field: must be from 1KiB to 1MiB, not the number 1"),
        (with_listener("limits: {rates: [{by: header, requests: 1}]}"),
         f"{LISTENER}.limits.rates[0].header: is missing: name the header to count by"),
        (with_listener("limits: {rates: [{by: source, header: x, requests: 1}]}"),
         f"{LISTENER}.limits.rates[0].header: is for limits by header, and this one is by source"),
        (with_listener("limits: {rates: [{by: path, requests: 1}]}", "TCP"),
         f"{LISTENER}.limits.rates: is for HTTP and HTTPS, and this listener is TCP"),
        (with_listener("timeouts: {keep_alive: 1s}", "TCP"),
         f"{LISTENER}.timeouts.keep_alive: is for HTTP and HTTPS, and this listener is TCP"),
        (with_listener("limits: {http2_max_streams: 9}", "TCP"),
         f"{LISTENER}.limits.http2_max_streams: is for HTTP and HTTPS, and this listener is TCP"),
        (with_listener("timeouts: {proxy_header: 9s}"),
         f"{LISTENER}.timeouts.proxy_header: is for listeners with proxy_protocol, and this one expects no header"),
        (with_listener("limits: {flows: 9}"),
         f"{LISTENER}.limits.flows: is for UDP, and this listener is HTTP"),
        (PLAIN + "limits: {descriptors: 101}", "limits.descriptors: must be from 10 to 100, not 101"),
        (with_listener("timeouts: {relay: 1s}"),
         f"{LISTENER}.timeouts.relay: is for TCP and TLS, and this listener is HTTP"),
        (with_listener("default_action: {forward: tg, stickiness: 1h}"),
         f"{LISTENER}.default_action.stickiness: is for a choice between several target groups, and here is none"),
        (with_listener("default_action: {redirect: {port: 443}, stickiness: 1h}"),
         f"{LISTENER}.default_action.stickiness: is for a choice between several target groups, and here is none"),
        (with_group("stickiness: {type: lb_cookie}", "network"),
         f"{GROUP}.stickiness.type: a network load balancer reads no cookies: source_ip is what it can do"),
        (with_group("stickiness: {type: app_cookie}"),
         f"{GROUP}.stickiness.cookie_name: is missing: name the application's cookie"),
        (with_group("stickiness: {type: source_ip, duration: 1h}"),
         f"{GROUP}.stickiness.duration: is for cookies: by source address there is none"),
        (with_group("stickiness: {type: app_cookie, cookie_name: AWSALBTG}"),
         f"{GROUP}.stickiness.cookie_name: AWSALBTG is the name of another of the load balancer's cookies:"
         " choose a name of your own"),
        (with_group("retries: {statuses: [500]}"),
         f"{GROUP}.retries.statuses: must be a list of 502, 503 and 504, each at most once, or [] for none"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_a_sentence(text: str, mistake: str) -> None:
    assert mistakes(text) == [mistake]


STICKY = with_group("stickiness: {type: lb_cookie}")


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    assert loaded(STICKY, tmp_path).settings.proxy.sticky_key == b""
    assert not list(tmp_path.iterdir()), "check leaves no trace"
    first = loaded(STICKY, tmp_path, materialize=True).settings
    file = tmp_path / ".penstock" / "stickiness.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first.proxy.sticky_key) == 32
    assert first.proxy.sticky_key.hex() not in repr(first)
    assert loaded(STICKY, tmp_path, materialize=True).settings == first
    loaded(PLAIN, tmp_path / "other", materialize=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "00" * 33])
def test_a_file_that_is_no_key_is_said_and_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / ".penstock" / "stickiness.key"
    file.parent.mkdir()
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is not 64 hexadecimal digits: delete it to have a new one made"):
        loaded(STICKY, tmp_path, materialize=True)
    assert file.read_text() == content


def test_a_key_that_others_may_read_is_said(tmp_path: Path) -> None:
    kept_key(tmp_path)
    (tmp_path / "stickiness.key").chmod(0o644)
    with pytest.raises(ValueError, match="others may read it: chmod 600"):
        kept_key(tmp_path)
