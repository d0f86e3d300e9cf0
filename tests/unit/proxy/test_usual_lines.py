"""The quick way to a line says what the slow way says, to the byte; what it may not say it leaves to the slow one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.proxy import records
from penstock.proxy.client_certificates import NOBODY, Identity
from penstock.proxy.http1 import parse_request
from penstock.proxy.log_lines import alb_line, json_line
from penstock.proxy.records import NO_TLS, TlsFacts, request_record, usual_record
from penstock.proxy.specs import Forward, ListenerSpec, WeightedGroup
from penstock.proxy.usual_lines import usual_alb, usual_json

FORWARD = Forward((WeightedGroup("tg"),))
LINES: dict[Any, Any] = {"json": (usual_json, json_line), "alb": (usual_alb, alb_line)}
SECURE = TlsFacts("TLSv1.3", "TLS_AES_128_GCM_SHA256", "cert", None, b"", NOBODY, "www.example.org", "http/1.1")
KNOWN = SECURE._replace(client=Identity("verified", 'CN="quoted"', "CN=authority", "1A"))


def listener(tls: TlsFacts) -> Any:
    secure = tls is not NO_TLS
    spec = ListenerSpec("app/lb", "127.0.0.1", 443 if secure else 80, "HTTPS" if secure else "HTTP", FORWARD)
    return SimpleNamespace(spec=spec, secure=secure)


def session(tls: TlsFacts = NO_TLS, fields: bytes = b"Host: a\r\nUser-Agent: curl/8\r\n", **changes: Any) -> Any:
    values = {
        "version": b"HTTP/1.1",
        "http10": False,
        "peer": ("203.0.113.7", 4711),
        "local": ("127.0.0.1", 80),
        "tls": tls,
        "connection_id": "TID_1",
        "head": parse_request(fields),
        "route": SimpleNamespace(label="default", action=FORWARD, edits=None),
        "group": SimpleNamespace(name="tg", spec=SimpleNamespace(protocol_version="HTTP1")),
        "target": SimpleNamespace(key="192.0.2.1:80"),
        "method": b"GET",
        "uri": b"/",
        "request_id": b"Root=1-2-3",
        "received": 34,
        "sent": 366,
        "status": 200,
        "target_status": 200,
        "request_time": 0.000123,
        "target_time": 0.0123,
        "reason": "",
        "denied_by": "",
        "place": None,
    }
    return SimpleNamespace(**{**values, **changes})


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
VISIBLE = st.binary(max_size=30).map(lambda text: b"/" + bytes(byte for byte in text if 33 <= byte <= 126))


@pytest.mark.parametrize("format", LINES)
@given(
    now=st.floats(1.6e9, 1.9e9),
    duration=st.floats(0, 1000),
    request_time=st.floats(0, 10),
    target_time=st.floats(0, 10),
    status=st.integers(200, 599),
    uri=VISIBLE,
    rule=st.sampled_from(["default", "10"]) | NAMES,
    agent=st.binary(max_size=12),
    host=st.sampled_from([b"", b"Host: a\r\n", b"HOST: Example.org:8080\r\n", b"host: [2001:db8::1]\r\n"]),
    tls=st.sampled_from([NO_TLS, SECURE, KNOWN]),
    http10=st.booleans(),
    connection=st.sampled_from(["", "TID_5"]),
)
def test_the_same_line(format: str, now: float, duration: float, uri: bytes, rule: str, agent: bytes, host: bytes,
                       tls: TlsFacts, http10: bool, connection: str, **numbers: Any) -> None:  # fmt: skip
    agent = bytes(byte for byte in agent if byte in b"\t" or 32 <= byte != 127)
    request = session(
        tls,
        uri=uri,
        head=parse_request(host + b"X: y\r\nuser-AGENT:" + agent + b"\r\nUser-Agent: second\r\n", http10=True),
        http10=http10,
        connection_id=connection,
        target_status=numbers["status"],
        **numbers,
    )
    request.route.label = rule
    quick, slow = LINES[format]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "time", SimpleNamespace(time=lambda: now))
        for _ in range(2):  # the second time with the place of the first
            usual = usual_record(listener(tls), request, duration, format)
            assert usual is not None
            assert quick(usual) == slow(request_record(listener(tls), request, duration))


@pytest.mark.parametrize(
    "unusual",
    [
        {"status": 502, "target_status": 0, "reason": "connect_failed"},
        {"reason": "target_closed"},
        {"denied_by": "acl"},
        {"status": 101, "target_status": 101},
        {"target": None},
        {"group": None},
        {"route": None},
        {"head": None},
        {"request_id": b""},
        {"request_time": -1.0},
        {"target_time": -1.0},
        {"version": b"HTTP/2.0"},
        {"route": SimpleNamespace(label="1", action=FORWARD, edits=object())},
    ],
)
def test_what_is_unusual_goes_the_slow_way(unusual: dict[str, Any]) -> None:
    assert usual_record(listener(NO_TLS), session(**unusual), 0.1, "json") is None


def test_a_place_is_made_again_when_what_it_was_made_of_changes() -> None:
    request, before = session(), listener(NO_TLS)
    usual_record(before, request, 0.1, "json")
    place = request.place
    usual_record(before, request, 0.1, "json")
    assert request.place is place
    usual_record(before, request, 0.1, "alb")
    assert request.place is not place
    place = request.place
    usual_record(listener(NO_TLS), request, 0.1, "alb")
    assert request.place is not place
