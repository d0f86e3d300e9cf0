"""What decides by text: cookies, ids of requests, rules, rewrites, and the YAML file."""

from __future__ import annotations

import json
import re
from pathlib import Path

from penstock.control.config import ConfigurationError, load_text
from penstock.proxy.edits import Edits, RewriteError
from penstock.proxy.hash_key import HashKey
from penstock.proxy.http1 import parse_request, parse_unusual_request_line
from penstock.proxy.http_fields import BadMessage
from penstock.proxy.rules import RuleTable
from penstock.proxy.specs import Conditions, FixedResponse, Rewrite, RuleSpec, StickinessSpec, TracingSpec
from penstock.proxy.stickiness import Stickiness, sign
from penstock.proxy.tracing import Tracer

from ..loaded import NOW
from .http import ONWARD

PART = b"\x1e"  # between the parts of an input


class _Target:
    key, weight = "192.0.2.1:80", 1


SECRET = bytes(32)
OURS = sign(SECRET, "target", "tg", _Target.key)
COOKIE_WORDS = (
    b"AWSALB=", b"AWSALBCORS=", OURS, OURS[:-1], b"app=1", b"; ", b";", b"=", b" ", b"\t", b",", b'"', b"X",
)  # fmt: skip
TRACE_WORDS = (
    b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01\r\n", b"tracestate: a=b\r\n", b"X-Request-Id: ",
    b"X-Amzn-Trace-Id: Root=1-", b"Self=1-", b"Root=", b";", b"-", b"00", b"ff", b"0" * 32, b"\r\n", b" ", b"x",
)  # fmt: skip
RULE_WORDS = (
    b"example.org", b"a.example.org", b"EXAMPLE.ORG", b":80", b"/", b"/api/", b".png", b"?a=1", b"&b=", b"%2F", b"GET",
    b"beta", b"192.0.2.1", b"198.51.100.9", b"2001:db8::1", b"c", PART, b"[", b"]", b"*",
)  # fmt: skip
REWRITE_WORDS = (b"/", b"/old/", b"http://b", b"*", b"?a=", b"%0d%0a", b"#", b"//", b"..", b"a", b"example.org", PART)
YAML_WORDS = (
    b"load_balancer:\n  name: lb\n", b"  listeners:\n    - {port: 80, protocol: HTTP, default_action: {forward: tg}}\n",
    b"  target_groups:\n    - {name: tg, targets: [{ip: 192.0.2.1, port: 80}]}\n", b"dns:\n", b"&a", b"*a", b"<<: ",
    b"!!python/object", b"{", b"}", b"[", b"]", b": ", b"- ", b"\n", b"  ", b"|", b'"', b"'", b"0x", b"~", b"---",
)  # fmt: skip


# -- cookies ----------------------------------------------------------------------------------------------------------


def cookies(raw: bytes) -> bool:
    """The look-up by regular expression finds what a plain walk through the crumbs finds."""
    try:
        head = parse_request(b"Host: a\r\nCookie: " + raw + b"\r\n")
    except BadMessage:
        return False
    target = _Target()
    sticky = Stickiness("tg", StickinessSpec("lb_cookie"), SECRET)
    sticky.refresh([target], [target])
    crumbs = [crumb for line in head.values(b"cookie") for crumb in re.split(rb"[; \t]", line)]
    shaped = [crumb for crumb in crumbs if re.fullmatch(rb"AWSALB(?:CORS)?=[A-Za-z0-9_-]{22}", crumb)]
    expected = bool(shaped) and shaped[0].endswith(b"=" + OURS)
    assert (sticky.find(head, "192.0.2.9") is not None) == expected
    session = Stickiness("tg", StickinessSpec("app_cookie", cookie="app"), SECRET)
    session.refresh([target], [target])
    assert session.find(head, "192.0.2.9") is None or b"app=" in raw
    value = HashKey("cookie:app").of("192.0.2.9", b"/", head.values)
    assert value is None or (value and value in raw)
    return expected


# -- ids of requests --------------------------------------------------------------------------------------------------

_TRACERS = [
    TracingSpec(request_id, parent)
    for request_id in ("X-Amzn-Trace-Id", "X-Request-Id", None)
    for parent in ("pass", "begin")
    if request_id or parent == "begin"
]


def trace_fields(block: bytes) -> bool:
    """Whatever names a client brings, one line of each goes on, and the head stays one head of the same framing."""
    try:
        head = parse_request(b"Host: a\r\n" + block)
    except BadMessage:
        return False
    for spec in _TRACERS:
        tracer = Tracer(spec, b"0123456789abcdef", int(NOW))
        forward, request_id, rest = tracer.stamp(head)
        whole = forward + b"192.0.2.1\r\n" + tracer.line + rest
        assert whole.endswith(b"\r\n\r\n")
        again = parse_request(whole[:-2], limits=ONWARD)
        assert (again.host, again.length) == (head.host, head.length)
        assert len(again.values((spec.request_id or "traceparent").lower().encode())) == 1
        if spec.traceparent == "begin":
            [parent] = again.values(b"traceparent")
            assert re.match(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", parent)
        assert request_id
        assert b"\r" not in request_id
    return True


# -- rules and rewrites -----------------------------------------------------------------------------------------------

OK = FixedResponse(200)
_CONDITIONS = (
    Conditions(host=("example.org",), path=("/api/*",)),
    Conditions(host=("*.example.org",)),
    Conditions(host=("a.*",), path=("*.png", "/?")),
    Conditions(path=("/api/*/x", "/*a*b*")),
    Conditions(header=(("x", ("beta", "b*a")),)),
    Conditions(query=((("a", ("1",)),), (("*", ("b?",)),))),
    Conditions(source_ip=("192.0.2.0/24", "2001:db8::/32")),
    Conditions(method=("GET",), path=("/",)),
    *(Conditions(host=(f"{n}.example.org",), path=(f"/{n}*",)) for n in range(12)),
    *(Conditions(query=((("b", (f"{n}",)), ("c", ("*",))),)) for n in range(12)),
    *(Conditions(source_ip=(f"198.51.100.{n}/{28 + n % 5}", "2001:db8::/126")) for n in range(12)),
)
_TABLE = RuleTable([RuleSpec(n + 1, conditions, OK) for n, conditions in enumerate(_CONDITIONS)], FixedResponse(404))


def rules(raw: bytes) -> bool:
    """The index gives the rule that trying them one after the other gives."""
    method, host, target, header, source = (raw.split(PART) + [b""] * 5)[:5]

    def values(name: bytes) -> tuple[bytes, ...]:
        return (header,) if name == b"x" else ()

    asked = (method, host, target, values, source.decode("latin-1"))
    found = _TABLE.match(*asked)
    assert found.label == _TABLE.explain(*asked)[-1].rule
    return found is not _TABLE.default


_REWRITES = (
    Edits((), (), Rewrite("^/old/(.*)$", "/new/$1")),
    Edits((), (), Rewrite("(a+)+$", "$1")),
    Edits((), (), Rewrite("^/([^/]*)/(.*)", "/$2?first=$1")),
    Edits((), (), Rewrite("^/old(.*)$", "$1")),
    Edits((), (), None, Rewrite("^(.*)\\.org$", "$1.net")),
)


def rewrite(raw: bytes) -> bool:
    """Of a host and a target that were right, nothing comes that is neither."""
    host, _, uri = raw.partition(PART)
    try:
        understood = parse_unusual_request_line(b"GET " + uri + b" HTTP/1.1\r\n")
        head = parse_request(b"Host: " + host + b"\r\n")
    except BadMessage:
        return False
    for edits in _REWRITES:
        try:
            target, forward = edits.request(understood.target, head.forward)
        except RewriteError:
            continue
        assert parse_unusual_request_line(b"GET " + target + b" HTTP/1.1\r\n").authority is None
        parse_request(forward + b"192.0.2.1\r\n", limits=ONWARD)
    return True


# -- the file ---------------------------------------------------------------------------------------------------------


def yaml(raw: bytes) -> bool:
    """A configuration, or mistakes each with a place and a sentence; never a traceback."""
    try:
        load_text(raw.decode("utf-8", "replace"), "penstock.yaml", directory=Path("/nowhere"), now=NOW)
    except ConfigurationError as refused:
        assert refused.mistakes
        assert all(mistake.line >= 1 and mistake.column >= 1 and mistake.message for mistake in refused.mistakes)
        json.dumps([mistake.message for mistake in refused.mistakes])
        return False
    return True
