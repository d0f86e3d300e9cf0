"""Patterns with wildcards against the naive expression, which is right and may take for ever."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.patterns import AnyOf, wildcard

QUICK = settings(max_examples=150, deadline=None, derandomize=True)
SMALL = st.lists(st.sampled_from([b"a", b"b", b".", b"*", b"?", b"\n", b"\xff", b"["]), max_size=8).map(b"".join)


def naive(pattern: bytes, text: bytes) -> bool:
    parts = {ord("*"): b".*", ord("?"): b"."}
    return re.fullmatch(b"".join(parts.get(c, re.escape(bytes([c]))) for c in pattern), text, re.DOTALL) is not None


@QUICK
@given(SMALL, SMALL)
def test_a_wildcard_fits_what_the_naive_expression_fits(pattern: bytes, text: bytes) -> None:
    assert bool(wildcard(pattern)(text)) == naive(pattern, text)


@QUICK
@given(st.lists(SMALL, max_size=4), SMALL)
def test_several_patterns_fit_what_one_of_them_fits(patterns: list[bytes], text: bytes) -> None:
    assert AnyOf(patterns).fits(text) == any(naive(pattern, text) for pattern in patterns)
