"""What of a request a consistent hash goes by."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from penstock.proxy.hash_key import HashKey, cookie

FIELDS = {b"x-user": [b"ada"], b"via": [b"a", b"b"], b"empty": [b""], b"cookie": [b"a=1; sid=xyz", b"b=2"]}


def values(name: bytes) -> Sequence[bytes]:
    return FIELDS.get(name, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source", b"192.0.2.1"),
        ("path", b"/a/b"),
        ("header:X-User", b"ada"),
        ("header:via", b"a, b"),
        ("header:empty", None),
        ("header:x-none", None),
        ("cookie:sid", b"xyz"),
        ("cookie:b", b"2"),
        ("cookie:SID", None),
        ("cookie:id", None),
    ],
)
def test_keys(text: str, expected: bytes | None) -> None:
    assert HashKey(text).of("192.0.2.1", b"/a/b?c=d", values) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"sid=1", b"1"),
        (b"xsid=0; sid=1", b"1"),
        (b"sid=1; sid=2", b"1"),
        (b"a;sid=1=2;;", b"1=2"),
        (b"sid=", None),
        (b"sid", None),
        (b"", None),
    ],
)
def test_cookies(line: bytes, expected: bytes | None) -> None:
    assert cookie([line], b"sid") == expected
