"""Cookies that name a target: made by the key alone, read strictly, worth nothing when the target is gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from penstock.proxy.http1 import RequestHead, parse_request
from penstock.proxy.specs import StickinessSpec
from penstock.proxy.stickiness import Cookie, GroupStickiness, Stickiness

KEY = b"k" * 32
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain"


@dataclass(frozen=True)
class Place:
    key: str
    weight: int = 1


A, B, C = Place("10.0.1.10:80"), Place("10.0.1.11:80"), Place("10.0.1.12:80")


def head(*cookies: bytes, more: bytes = b"") -> RequestHead:
    return parse_request(b"Host: a\r\n" + b"".join(b"Cookie: %b\r\n" % each for each in cookies) + more)


def sticky(
    *places: Place, spec: StickinessSpec | None = None, key: bytes = KEY, group: str = "tg"
) -> Stickiness[Place]:
    found: Stickiness[Place] = Stickiness(group, spec or StickinessSpec("lb_cookie"), key)
    found.refresh(places, places)
    return found


def cookie_of(line: bytes) -> bytes:
    return line.removeprefix(b"Set-Cookie: ").partition(b";")[0]


def given(stickiness: Stickiness[Place], place: Place) -> bytes:
    return cookie_of(stickiness.lines(place, head(), ANSWER, secure=False))


def test_the_cookie_brings_a_client_back() -> None:
    one = sticky(A, B)
    line = one.lines(B, head(), ANSWER, secure=False)
    assert line.startswith(b"Set-Cookie: AWSALB=")
    assert line.endswith(b"; Path=/; Max-Age=86400; HttpOnly\r\n")
    assert one.find(head(cookie_of(line)), "192.0.2.1") is B
    assert one.find(head(), "192.0.2.1") is None
    assert b"10.0" not in line


def test_it_outlives_the_process_that_gave_it_but_not_the_key_the_group_or_the_target() -> None:
    cookie = given(sticky(A, B), B)
    assert sticky(A, B).find(head(cookie), "") is B
    assert sticky(A, B, C).find(head(cookie), "") is B
    assert sticky(A, B, key=b"x" * 32).find(head(cookie), "") is None
    assert sticky(A, B, group="other").find(head(cookie), "") is None
    gone = sticky(A, B)
    gone.refresh([A], [A])
    assert gone.find(head(cookie), "") is None


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (b"", b"", True),
        (b"a=1; ", b"; b=2", True),
        (b"a=1;", b";b=2", True),
        (b"X", b"", False),
        (b"", b"x", False),
        (b"", b"=", False),
        (b'"', b'"', False),
        (b"a=", b"", False),
    ],
)
def test_it_is_read_as_a_whole_or_not_at_all(before: bytes, after: bytes, found: bool) -> None:
    one = sticky(A)
    assert (one.find(head(before + given(one, A) + after), "") is A) == found


def test_it_is_found_in_any_cookie_line_and_by_its_twins_name() -> None:
    one = sticky(A)
    cookie = given(one, A)
    assert one.find(head(b"a=1", cookie), "") is A
    assert one.find(head(cookie.replace(b"AWSALB=", b"AWSALBCORS=")), "") is A
    assert one.find(head(cookie.replace(b"AWSALB=", b"AWSALBTG=")), "") is None


def test_another_site_gets_a_twin_over_tls() -> None:
    one = sticky(A)
    foreign = head(more=b"Origin: https://www.example.org\r\n")
    first, second, rest = one.lines(A, foreign, ANSWER, secure=True).split(b"\r\n")
    assert first.startswith(b"Set-Cookie: AWSALB=")
    assert second.startswith(b"Set-Cookie: AWSALBCORS=")
    assert second.endswith(b"; SameSite=None; Secure")
    assert rest == b""
    assert one.lines(A, foreign, ANSWER, secure=False).count(b"Set-Cookie") == 1
    assert one.lines(A, head(), ANSWER, secure=True).count(b"Set-Cookie") == 1


def test_a_target_that_gets_no_new_clients_keeps_those_it_has() -> None:
    one = sticky(A, B)
    cookie = given(one, B)
    one.refresh([A, B], [A])
    assert one.find(head(cookie), "") is B


APP = StickinessSpec("app_cookie", 60.0, "session")


def test_an_applications_cookie_begins_holds_and_ends_it() -> None:
    one = sticky(A, B, spec=APP)
    assert one.lines(A, head(), ANSWER, secure=False) == b""
    line = one.lines(A, head(), ANSWER + b"\r\nset-cookie: session=1; Path=/", secure=False)
    assert line.startswith(b"Set-Cookie: AWSALBAPP-0=")
    ours = cookie_of(line)
    assert one.find(head(b"session=1; " + ours), "") is A
    assert one.find(head(ours), "") is None, "the application has ended its session"
    assert one.find(head(b"session=1"), "") is None
    assert one.find(head(b"xsession=1; " + ours), "") is None
    assert one.lines(A, head(b"session=1; " + ours), ANSWER, secure=False) == b"", "nothing to say anew"
    assert one.lines(A, head(), ANSWER + b"\r\nX-Note: set-cookie: session=1", secure=False) == b""


def test_a_session_that_had_to_move_is_told_where_to() -> None:
    one = sticky(A, B, spec=APP)
    old = head(b"session=1; " + cookie_of(one.lines(A, head(), ANSWER + b"\r\nSet-Cookie: session=1", secure=False)))
    one.refresh([B], [B])
    assert one.find(old, "") is None
    moved = one.lines(B, old, ANSWER, secure=False)
    assert one.find(head(b"session=1; " + cookie_of(moved)), "") is B


SOURCE = StickinessSpec("source_ip")
CLIENTS = [f"192.0.{number // 200}.{number % 200}" for number in range(2000)]


def test_an_address_keeps_its_target_and_only_those_of_a_lost_one_move() -> None:
    one = sticky(A, B, C, spec=SOURCE)
    before = {client: one.of_source(client) for client in CLIENTS}
    assert before == {client: sticky(C, B, A, spec=SOURCE).of_source(client) for client in CLIENTS}
    one.refresh([A, B], [A, B])
    for client, place in before.items():
        assert one.of_source(client) is (place if place is not C else one.of_source(client))
        assert one.of_source(client) is not C
    assert one.lines(A, head(), ANSWER, secure=False) == b""


def test_addresses_are_spread_by_weight() -> None:
    heavy = Place("10.0.1.13:80", 3)
    one = sticky(A, heavy, spec=SOURCE)
    shares = Counter(one.of_source(client) for client in CLIENTS)
    assert 0.70 < shares[heavy] / len(CLIENTS) < 0.80
    assert sticky(spec=SOURCE).of_source("192.0.2.1") is None


def test_a_group_once_drawn_is_found_again() -> None:
    groups = GroupStickiness(["blue", "green"], 60.0, KEY)
    line = groups.line("green", head(), secure=False)
    assert line.startswith(b"Set-Cookie: AWSALBTG=")
    assert groups.find(head(cookie_of(line))) == "green"
    assert GroupStickiness(["blue"], 60.0, KEY).find(head(cookie_of(line))) is None
    assert groups.find(head()) is None


def test_a_name_is_text_and_not_a_pattern() -> None:
    assert Cookie(b"a.b", 1.0).value(head(b"axb=" + b"v" * 22)) is None
    assert Cookie(b"a.b", 1.0).value(head(b"a.b=" + b"v" * 22)) == b"v" * 22
