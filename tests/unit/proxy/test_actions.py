"""Redirects and fixed responses, byte by byte."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.actions import fixed_response, redirect_location, redirect_response
from penstock.proxy.specs import FixedResponse, Redirect

DATE = b"Fri, 20 Nov 2026 08:00:00 GMT"


def location(
    redirect: Redirect,
    *,
    protocol: bytes = b"http",
    host: bytes = b"example.org",
    port: int = 80,
    path: bytes = b"/a/b",
    query: bytes = b"",
) -> bytes:
    return redirect_location(redirect, protocol=protocol, host=host, port=port, path=path, query=query)


@pytest.mark.parametrize(
    ("redirect", "request_parts", "url"),
    [
        (Redirect(301, protocol="HTTPS", port="443"), {}, b"https://example.org/a/b"),
        (Redirect(301, protocol="HTTPS", port="40443"), {"query": b"x=1"}, b"https://example.org:40443/a/b?x=1"),
        (Redirect(301, path="/new/#{path}"), {}, b"http://example.org/new/a/b"),
        (Redirect(path="/new/#{path}"), {"path": b"/"}, b"http://example.org/new/"),
        (Redirect(host="www.#{host}"), {"port": 8080}, b"http://www.example.org:8080/a/b"),
        (Redirect(path="/#{host}/#{port}/#{path}"), {}, b"http://example.org/example.org/80/a/b"),
        (Redirect(query="#{query}&value=xyz"), {"query": b"a=b"}, b"http://example.org/a/b?a=b&value=xyz"),
        (Redirect(query=""), {"query": b"a=b"}, b"http://example.org/a/b"),
        (
            Redirect(path="/login", query="from=#{protocol}://#{host}:#{port}/#{path}&#{query}"),
            {"query": b"q"},
            b"http://example.org/login?from=http://example.org:80/a/b&q",
        ),
        (Redirect(), {"protocol": b"HTTPS", "port": 443}, b"https://example.org/a/b"),
        (Redirect(), {"protocol": b"https", "port": 80}, b"https://example.org:80/a/b"),  # not https's default
        (Redirect(), {"host": b"[2001:db8::1]", "port": 8080}, b"http://[2001:db8::1]:8080/a/b"),
        (Redirect(), {"path": b"//evil.example/"}, b"http://example.org//evil.example/"),
        # What a client sends is not looked at for keywords, and stays in the part it came in.
        (Redirect(), {"path": b"/#{host}"}, b"http://example.org/%23%7Bhost%7D"),
        (Redirect(), {"query": b"#{host}"}, b"http://example.org/a/b?%23%7Bhost%7D"),
        (Redirect(), {"path": b"/a?b#c"}, b"http://example.org/a%3Fb%23c"),
        (Redirect(), {"path": b"/a\r\nSet-Cookie: x\x00"}, b"http://example.org/a%0D%0ASet-Cookie:%20x%00"),
        (Redirect(), {"path": b"/\xc3\xa9%20%"}, b"http://example.org/%C3%A9%20%"),
        (Redirect(), {"host": b"evil.example/@example.org"}, b"http://evil.example%2F%40example.org/a/b"),
        (Redirect(), {"host": b"a\r\nb"}, b"http://a%0D%0Ab/a/b"),
        # Without a host the answer is relative, and must not become the name of a server.
        (Redirect(), {"host": b"", "query": b"q"}, b"/a/b?q"),
        (Redirect(), {"host": b"", "path": b"//evil.example/"}, b"/.//evil.example/"),
        (Redirect(path="no-slash"), {}, b"http://example.org/no-slash"),
    ],
)
def test_redirect_locations(redirect: Redirect, request_parts: dict, url: bytes) -> None:
    assert location(redirect, **request_parts) == url


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(
    host=st.binary(min_size=1, max_size=20), path=st.binary(max_size=20).map(b"/".__add__), query=st.binary(max_size=20)
)
def test_no_client_leaves_its_part_of_the_url(host: bytes, path: bytes, query: bytes) -> None:
    redirect = Redirect(host="#{host}", path="/new/#{path}", query="a=1&#{query}")
    url = location(redirect, host=b"x" + host, path=path, query=query)
    assert url.isascii()
    assert not any(byte <= 0x20 or byte == 0x7F for byte in url)
    text = url.decode()
    assert text.startswith("http://x")
    assert text.count("?") == 1 + text.partition("?")[2].count("?")
    assert "#" not in text
    authority, _, rest = text.removeprefix("http://").partition("/")
    assert "@" not in authority
    assert rest.startswith("new/")
    if "[" not in authority and "]" not in authority:
        assert urlsplit(text).path.startswith("/new/")


def test_redirect_response() -> None:
    answer = redirect_response(Redirect(301), b"https://example.org/", date=DATE)
    assert answer == (
        b"HTTP/1.1 301 Moved Permanently\r\nDate: Fri, 20 Nov 2026 08:00:00 GMT\r\n"
        b"Location: https://example.org/\r\nContent-Length: 0\r\n\r\n"
    )
    assert redirect_response(Redirect(), b"/", date=DATE, close=True).startswith(b"HTTP/1.1 302 Found\r\n")
    assert b"\r\nConnection: close\r\n" in redirect_response(Redirect(), b"/", date=DATE, close=True)


@pytest.mark.parametrize(
    ("action", "head", "line", "rest"),
    [
        (
            FixedResponse(418, "text/plain", "no coffee\n"),
            False,
            b"HTTP/1.1 418 I'm a Teapot",
            b"Content-Type: text/plain\r\nContent-Length: 10\r\n\r\nno coffee\n",
        ),
        (
            FixedResponse(418, "text/plain", "no coffee\n"),
            True,
            b"HTTP/1.1 418 I'm a Teapot",
            b"Content-Type: text/plain\r\nContent-Length: 10\r\n\r\n",
        ),
        (
            FixedResponse(503),
            False,
            b"HTTP/1.1 503 Service Unavailable",
            b"Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
        ),
        (FixedResponse(204, body="never sent"), False, b"HTTP/1.1 204 No Content", b"\r\n"),
        (
            FixedResponse(499, "text/html", "é"),
            False,
            b"HTTP/1.1 499 ",
            b"Content-Type: text/html; charset=utf-8\r\nContent-Length: 2\r\n\r\n\xc3\xa9",
        ),
        (
            FixedResponse(200, "application/json", '"é"'),
            False,
            b"HTTP/1.1 200 OK",
            b'Content-Type: application/json\r\nContent-Length: 4\r\n\r\n"\xc3\xa9"',
        ),
    ],
)
def test_fixed_responses(action: FixedResponse, head: bool, line: bytes, rest: bytes) -> None:
    start = line + b"\r\nDate: " + DATE + b"\r\n"
    assert fixed_response(action, date=DATE, head=head) == start + rest
    assert fixed_response(action, date=DATE, head=head, close=True) == start + b"Connection: close\r\n" + rest
