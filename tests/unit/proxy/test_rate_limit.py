"""Token buckets: what they give, what they refuse, and that they stay small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.proxy.http1 import parse_request
from penstock.proxy.limit_specs import RateLimitSpec
from penstock.proxy.rate_limit import RateLimits, TokenBuckets, source_key

HEAD = parse_request(b"Host: a\r\n")
KEYED = parse_request(b"Host: a\r\nX-Key: one\r\n")


def test_a_burst_then_the_rate() -> None:
    buckets = TokenBuckets(rate=2.0, burst=3)
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("a", 100.4) > 0
    assert buckets.take("a", 100.5) == 0.0
    assert buckets.take("a", 100.5) > 0
    assert buckets.take("b", 100.5) == 0.0, "another key has a bucket of its own"
    assert [buckets.take("a", 200.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "it fills up to the burst, not beyond"


@given(
    rate=st.sampled_from([0.1, 1.0, 7.0, 1000.0]),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, gaps: list[float]) -> None:
    buckets = TokenBuckets(rate, burst)
    now, given_out = 1000.0, 0
    for gap in gaps:
        now += gap
        given_out += buckets.take("k", now) == 0.0
        assert given_out <= burst + (now - 1000.0) * rate + 1e-6


def test_the_wait_is_just_long_enough() -> None:
    buckets = TokenBuckets(rate=3.0, burst=1)
    assert buckets.take("a", 50.0) == 0.0
    wait = buckets.take("a", 50.1)
    assert buckets.take("a", 50.1 + wait / 2) > 0
    assert buckets.take("a", 50.1 + wait) == 0.0


def test_keys_are_bounded_and_the_longest_silent_is_forgotten() -> None:
    buckets = TokenBuckets(rate=0.001, burst=1, max_keys=10)
    for number in range(1000):
        buckets.take(number, 0.0)
    assert len(buckets) == 10
    assert buckets.take(999, 1.0) > 0, "who asked last is still known"
    assert buckets.take(0, 1.0) == 0.0


def test_a_request_is_counted_by_source_header_or_path() -> None:
    def refusals(by: str, *asked: tuple[str, bytes, object]) -> list[str]:
        limits = RateLimits([RateLimitSpec(by, 1.0, 1, "x-key")])  # type: ignore[arg-type]
        found = [limits.refuse(source, path, head, 9.0) for source, path, head in asked]  # type: ignore[arg-type]
        return [each[0] if each else "" for each in found]

    one, other = "192.0.2.1", "192.0.2.2"
    assert refusals("source", (one, b"/", HEAD), (other, b"/", HEAD), (one, b"/x", KEYED)) == [
        *("", "", "rate_limit_source"),
    ]
    assert refusals("path", (one, b"/a?1", HEAD), (one, b"/b", HEAD), (other, b"/a?2", HEAD)) == [
        *("", "", "rate_limit_path"),
    ]
    assert refusals("header", (one, b"/", KEYED), (one, b"/", HEAD), (one, b"/", HEAD), (other, b"/", KEYED)) == [
        *("", "", "", "rate_limit_header"),
    ]


def test_retry_after_is_whole_seconds_rounded_up() -> None:
    limits = RateLimits([RateLimitSpec("source", 0.4, 1)])
    assert limits.refuse("192.0.2.1", b"/", HEAD, 9.0) is None
    assert limits.refuse("192.0.2.1", b"/", HEAD, 9.0) == ("rate_limit_source", 3)


def test_a_reload_is_no_amnesty() -> None:
    kept, new = RateLimitSpec("source", 1.0, 1), RateLimitSpec("path", 1.0, 1)
    before = RateLimits([kept])
    before.refuse("192.0.2.1", b"/", HEAD, 9.0)
    assert RateLimits([new, kept], before).refuse("192.0.2.1", b"/", HEAD, 9.0) == ("rate_limit_source", 1)
    assert RateLimits([RateLimitSpec("source", 2.0, 1)], before).refuse("192.0.2.1", b"/", HEAD, 9.0) is None


def test_a_subscriber_of_ipv6_is_its_prefix() -> None:
    assert source_key("2001:db8::1") == source_key("2001:db8::ffff:1") != source_key("2001:db8:0:1::1")
    assert source_key("fe80::1%eth0") == source_key("fe80::2")
    assert source_key("192.0.2.1") != source_key("192.0.2.2")
