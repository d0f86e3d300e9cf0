"""Wildcards and their index against a matcher that is read off the definition."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.patterns import AnyOf, PatternIndex, wildcard


def plain_fits(pattern: bytes, text: bytes) -> bool:
    """`*` is nothing or one byte and a `*` again, `?` one byte, all else itself."""

    @cache
    def fits(at: int, position: int) -> bool:
        if at == len(pattern):
            return position == len(text)
        if pattern[at] == ord("*"):
            return fits(at + 1, position) or (position < len(text) and fits(at, position + 1))
        return position < len(text) and pattern[at] in (ord("?"), text[position]) and fits(at + 1, position + 1)

    return fits(0, 0)


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (b"*.example.com", b"test.example.com", True),
        (b"*.example.com", b"a.b.example.com", True),
        (b"*.example.com", b"example.com", False),
        (b"/img/*", b"/img/picture.jpg", True),
        (b"/img/*", b"/img/", True),
        (b"/img/*", b"/img", False),
        (b"/img/*", b"/IMG/x", False),
        (b"/img/*/pics", b"/img/a/b/pics", True),
        (b"/img/*/pics", b"/img/pics", False),
        (b"/?", b"/a", True),
        (b"/?", b"/", False),
        (b"/?", b"/ab", False),
        (b"*", b"", True),
        (b"?", b"\n", True),
        (b"a*\n*b", b"a\n\nb", True),
        (b"/a.b", b"/aXb", False),  # nothing of a pattern is a regular expression
        (b"[a-z]+*", b"[a-z]+", True),
        (b"ab*ba", b"aba", False),  # head and tail may not share bytes
        (b"*aa*aa", b"aaa", False),
        (b"", b"", True),
        (b"\xff*", b"\xffx", True),
    ],
)
def test_what_a_pattern_means(pattern: bytes, text: bytes, fits: bool) -> None:
    assert (wildcard(pattern)(text) is not None) is fits
    assert AnyOf([pattern]).fits(text) is fits
    assert plain_fits(pattern, text) is fits


patterns = st.lists(st.sampled_from([b"a", b"b", b".", b"/", b"*", b"?"]), max_size=8).map(b"".join)
texts = st.lists(st.sampled_from([b"a", b"b", b".", b"/", b"\n"]), max_size=10).map(b"".join)


@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(patterns, texts)
def test_wildcards_mean_what_the_definition_says(pattern: bytes, text: bytes) -> None:
    assert (wildcard(pattern)(text) is not None) is plain_fits(pattern, text)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.lists(patterns, max_size=6), texts)
def test_any_of_several(several: list[bytes], text: bytes) -> None:
    assert AnyOf(several).fits(text) is any(plain_fits(pattern, text) for pattern in several)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.sets(patterns, max_size=30), texts)
def test_the_index_never_misses_a_pattern_that_fits(several: set[bytes], text: bytes) -> None:
    index = PatternIndex({pattern: pattern for pattern in several}, tuple[bytes, ...])
    found = [pattern for some in index.find(text) for pattern in some]
    assert len(found) == len(set(found))
    assert set(found) >= {pattern for pattern in several if plain_fits(pattern, text)}


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.sets(texts, max_size=10), st.sets(texts, max_size=10), st.sets(texts, max_size=10), texts)
def test_the_index_is_exact_for_literals_and_ends(equal, prefixes, suffixes, text: bytes) -> None:
    several = equal | {prefix + b"*" for prefix in prefixes} | {b"*" + suffix for suffix in suffixes}
    index = PatternIndex({pattern: pattern for pattern in several}, tuple[bytes, ...])
    found = [pattern for some in index.find(text) for pattern in some]
    assert sorted(found) == sorted(pattern for pattern in several if plain_fits(pattern, text))


@pytest.mark.parametrize(
    "pattern", [b"*a" * 60 + b"b", b"*a?" * 40 + b"b", b"a*" * 60 + b"b", b"*" * 60 + b"b", b"*" + b"?" * 60 + b"b*x"]
)
def test_no_number_of_stars_makes_it_slow(pattern: bytes) -> None:
    # Trying every split of 16 KiB among 60 stars would not end; that this ends is the assertion.
    assert wildcard(pattern)(b"a" * 16384) is None
