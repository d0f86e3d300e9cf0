"""Stickiness, rate limits and timeouts that fit what they stand on."""

from __future__ import annotations

from .mistakes import Path
from .models import Action, Listener, LoadBalancer, TargetGroup
from .review import Review
from .scalars import seconds_as_text

HTTP = ("HTTP", "HTTPS")
CONNECTIONS = ("HTTP", "HTTPS", "TCP", "TLS")
# What holds for listeners of some protocols only. What is not here holds for all.
KEYS_OF = {
    ("timeouts", HTTP): (
        *("first_byte", "request_head", "idle", "request", "keep_alive", "connection_age", "tunnel", "linger"),
        "filter",
    ),
    ("timeouts", ("TCP", "TLS")): ("relay",),
    ("timeouts", ("UDP",)): ("flow",),
    ("timeouts", ("HTTPS", "TLS")): ("tls_handshake",),
    ("timeouts", CONNECTIONS): ("proxy_header",),
    ("limits", ("UDP",)): ("flows",),
    ("limits", HTTP): (
        *("request_line", "header_field", "request_head", "header_fields", "forwarded_for"),
        *("body", "body_rate", "body_rate_grace", "ahead", "linger", "rates"),
        *("chunk_extension", "trailer", "trailer_fields"),
        *("http2_max_streams", "http2_stream_window", "http2_connection_window"),
        *("http2_max_resets", "http2_max_control_frames"),
    ),
    ("limits", CONNECTIONS): ("buffer", "backlog", "connections", "connections_per_source"),
}


def check_listener_limits(review: Review, path: Path, listener: Listener) -> None:
    if review.sound((*path, "protocol")):
        for (section, protocols), keys in KEYS_OF.items():
            given = getattr(listener, section).model_fields_set if listener.protocol not in protocols else ()
            for key in keys:
                if key in given:
                    names = " and ".join([", ".join(protocols[:-1]), protocols[-1]] if protocols[1:] else protocols)
                    review.mistake((*path, section, key), f"is for {names}, and this listener is {listener.protocol}")
    place = (*path, "timeouts", "proxy_header")
    if (
        listener.proxy_protocol is None
        and listener.protocol in CONNECTIONS  # else that was said above
        and "proxy_header" in listener.timeouts.model_fields_set
        and review.sound((*path, "proxy_protocol"), place)
    ):
        review.mistake(place, "is for listeners with proxy_protocol, and this one expects no header")
    for index, rate in enumerate(listener.limits.rates):
        place = (*path, "limits", "rates", index)
        if not review.sound((*place, "by"), (*place, "header")):
            continue
        if rate.by == "header" and rate.header is None:
            review.mistake((*place, "header"), "is missing: name the header to count by", at_key=True)
        elif rate.by != "header" and rate.header is not None:
            review.mistake((*place, "header"), f"is for limits by header, and this one is by {rate.by}")


def check_shutdown(review: Review) -> None:
    shutdown, path = review.configuration.shutdown, ("shutdown", "close_spread")
    if shutdown.close_spread > shutdown.drain and review.sound(path, ("shutdown", "drain")):
        spread, drain = seconds_as_text(shutdown.close_spread), seconds_as_text(shutdown.drain)
        review.mistake(path, f"{spread} is longer than the drain, {drain}: by then all connections are closed")


def check_group_limits(review: Review, path: Path, group: TargetGroup, balancer: LoadBalancer) -> None:
    sticky = group.stickiness
    if sticky is None or not review.sound((*path, "stickiness", "type"), (*path, "stickiness", "cookie_name")):
        return
    place = (*path, "stickiness")
    if balancer.type == "network" and sticky.type != "source_ip":
        review.mistake((*place, "type"), "a network load balancer reads no cookies: source_ip is what it can do")
    elif sticky.type == "app_cookie" and sticky.cookie_name is None:
        review.mistake((*place, "cookie_name"), "is missing: name the application's cookie", at_key=True)
    elif sticky.type == "source_ip":
        for key in ("cookie_name", "duration"):
            if key in sticky.model_fields_set:
                review.mistake((*place, key), "is for cookies: by source address there is none")


def check_forward_stickiness(review: Review, path: Path, action: Action, listener: Listener) -> None:
    if action.stickiness is None:
        return
    if action.forward is None or len(action.forward) < 2:
        review.mistake((*path, "stickiness"), "is for a choice between several target groups, and here is none")
    elif listener.protocol not in HTTP:
        review.mistake((*path, "stickiness"), f"a {listener.protocol} listener reads no cookies: leave it out")
