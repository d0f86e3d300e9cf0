"""What filters see and give back: text in, bytes out, and nothing that would split or reframe a message."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.proxy import filter_chain
from penstock.proxy.filter_chain import REPORT_INTERVAL, Reports
from penstock.proxy.filters import Request, Response, TargetResponse

BLOCK = b"Host: Example.org:8080\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 5"


def request(uri: bytes = b"/a/b?c=d") -> Request:
    return Request(b"GET", uri, BLOCK)


def test_a_request_that_nobody_changes_goes_on_as_its_bytes_were() -> None:
    asked = request()
    assert (asked.host, asked.path, asked.query, asked.target) == ("Example.org:8080", "/a/b", "c=d", "/a/b?c=d")
    assert asked.headers["X-A"] == "1, 2"
    assert asked.headers.get_all("x-A") == ["1", "2"]
    assert list(asked.headers) == ["host", "x-a", "content-length"]
    assert len(asked.headers) == 3
    assert "x-b" not in asked.headers
    assert asked.on_the_wire() == (b"/a/b?c=d", BLOCK)


def test_changes_reach_the_wire() -> None:
    asked = request()
    asked.headers["X-A"] = "3"
    asked.headers.add("x-a", "\xe9")
    asked.headers["host"] = "other.example.org"
    asked.query = ""
    asked.path = "/c%20d"
    uri, block = asked.on_the_wire()
    assert uri == b"/c%20d"
    assert block == b"Content-Length: 5\r\nX-A: 3\r\nx-a: \xe9\r\nhost: other.example.org"
    asked.query = "x=1"
    asked.path = "/e"
    assert asked.target == "/e?x=1"
    del asked.headers["x-a"]
    with pytest.raises(KeyError):
        del asked.headers["x-a"]
    with pytest.raises(KeyError):
        asked.headers["x-a"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda asked: asked.headers.add("x-b", "a\r\nx-c: d"), "is no header field"),
        (lambda asked: asked.headers.add("x-b: x", "a"), "is no header field"),
        (lambda asked: asked.headers.add("", "a"), "is no header field"),
        (lambda asked: asked.headers.__setitem__("x-b", "a\0"), "is no header field"),
        (lambda asked: asked.headers.__setitem__("x-b", "\u20ac"), "cannot carry"),
        (lambda asked: asked.headers.__setitem__("Content-Length", "6"), "content-length cannot be changed"),
        (lambda asked: asked.headers.add("transfer-encoding", "chunked"), "transfer-encoding cannot be changed"),
        (lambda asked: asked.headers.__setitem__("x-forwarded-for", "192.0.2.1"), "cannot be changed"),
        (lambda asked: asked.headers.__delitem__("content-length"), "cannot be changed"),
        (lambda asked: asked.headers.__delitem__("Host"), "not be deleted"),
        (lambda asked: asked.headers.__setitem__("host", "a b"), "is no host"),
        (lambda asked: setattr(asked, "path", "b"), "is no path"),
        (lambda asked: setattr(asked, "path", "/b c"), "is no path"),
        (lambda asked: setattr(asked, "path", "/b?c"), "has a [?] in it"),
        (lambda asked: setattr(asked, "target", "/b HTTP/1.1\r\nx: y"), "is no path"),
        (lambda asked: setattr(asked, "target", "/b#c"), "is no path"),
        (lambda asked: setattr(asked, "query", "\u20ac"), "is no path"),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_is_written(change: Callable[[Any], None], why: str) -> None:
    asked = request()
    with pytest.raises(ValueError, match=why):
        change(asked)
    assert asked.on_the_wire() == (b"/a/b?c=d", BLOCK)


@pytest.mark.parametrize(
    ("response", "head", "message"),
    [
        (
            Response(403, "no\n"),
            False,
            b"HTTP/1.1 403 Forbidden\r\nDate: now\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 3\r\n\r\nno\n",
        ),
        (
            Response(200, b"\0", {"Content-Type": "image/png", "x-a": "b"}),
            True,
            b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Type: image/png\r\nx-a: b\r\nContent-Length: 1\r\n\r\n",
        ),
        (Response(204), False, b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"),
        (Response(599), False, b"HTTP/1.1 599 \r\nDate: now\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_an_answer_is_a_message(response: Response, head: bool, message: bytes) -> None:
    assert response.message(b"now", close=False, head=head) == message
    assert b"\r\nConnection: close\r\n" in response.message(b"now", close=True, head=head)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Response(101), "101 is no status"),
        (lambda: Response(600), "600 is no status"),
        (lambda: Response(304, "x"), "has no body"),
        (lambda: Response(headers={"Date": "x"}), "date cannot be changed"),
    ],
)
def test_what_is_no_answer_cannot_be_made(make: Callable[[], Response], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_a_targets_answer_is_changed() -> None:
    answer = TargetResponse(b"HTTP/1.1 200 Fine\r\nServer: a\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d")
    assert answer.on_the_wire() == b"HTTP/1.1 200 Fine\r\nServer: a\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d"
    assert answer.headers.get_all("set-cookie") == ["a=b", "c=d"]
    answer.status = 503
    del answer.headers["server"]
    assert answer.on_the_wire() == b"HTTP/1.1 503 Service Unavailable\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d"
    for status in (100, 204, 304, 600):
        with pytest.raises(ValueError, match="cannot become"):
            answer.status = status
    bare = TargetResponse(b"HTTP/1.1 304 Not Modified")
    assert bare.on_the_wire() == b"HTTP/1.1 304 Not Modified"
    with pytest.raises(ValueError, match="304 cannot become 200"):
        bare.status = 200
    with pytest.raises(ValueError, match="content-length cannot be changed"):
        answer.headers["Content-Length"] = "1"


def test_a_failure_is_told_once_a_minute_and_the_others_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(filter_chain.time, "monotonic", lambda: now)
    reports = Reports()
    for _ in range(3):
        reports.tell("auth", "on_request", "ValueError: x", ValueError("x"))
    reports.tell("auth", "on_log", "no answer", None)
    now += REPORT_INTERVAL
    reports.tell("auth", "on_request", "ValueError: y", ValueError("y"))
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "filter auth, on_request: ValueError: x",
        "filter auth, on_log: no answer",
        "filter auth, on_request: ValueError: y (and 2 failures since the last that was told)",
    ]


def test_the_filter_in_the_documentation_does_what_it_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "filters.md").read_text()
    names: dict[str, Any] = {"__name__": "example"}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], names)
    kind = names["ApiKey"]
    filter_ = kind(kind.Config.model_validate({"keys": {"alice": "k3y"}}))
    assert filter_.on_request(request()).status == 401
    known = Request(b"GET", b"/", b"Host: a\r\nX-Api-Key: k3y")
    assert filter_.on_request(known) is None
    assert known.headers["x-user"] == "alice"
