"""Expressions for rewriting: the same as Python's `re` finds, by either engine, and never without an end."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.regex import CHEAP, MAX_DEPTH, BadExpression, Expression, TooDear

CASES = [
    (r"^/api/(.*)$", b"/api/users"),
    (r"^/api/(.*)$", b"/apis"),
    (r"(a|ab)(c|bcd)(d*)", b"abcd"),  # the branch written first, not the longest
    (r"a*?b", b"aaab"),
    (r"x{2,3}", b"xxxx"),
    (r"x{2,3}?", b"xxxx"),
    (r"[]x-z-]+", b"a]y-z"),
    (r"[^/]+$", b"/a/b"),
    (r"\d+\.\w+", b"v1.beta"),
    (r"(?:(a)|b)+", b"ab"),
    (r"|x", b"x"),
    (r"$", b"end"),
]


@pytest.mark.parametrize(("expression", "text"), CASES)
def test_both_engines_find_what_re_finds(expression: str, text: bytes) -> None:
    wanted = re.search(expression.encode(), text)
    spans = None if wanted is None else tuple(at for span in wanted.regs for at in span)
    compiled = Expression(expression)
    assert compiled.search(text) == spans
    assert compiled.walk(text) == spans


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        (r"(?=a)", "no look-around"),
        (r"(?<!a)b", "no look-around"),
        (r"(?P<name>a)", "only (?:"),
        (r"(a)\1", "back-references"),
        (r"\bword", r"\d"),
        (r"a**", "two repetitions"),
        (r"a++", "two repetitions"),
        (r"(a?)*", "can be empty"),
        (r"(|a)+", "can be empty"),
        (r"^*", "anchor"),
        (r"*", "repeats nothing"),
        (r"a{5,2}", "backwards"),
        (r"a{101}", "more than 100"),
        (r"((a{99}){99}){99}", "too large"),
        (r"(a", "not closed"),
        (r"a)", "too many"),
        (r"[a", "not closed"),
        (r"[z-a]", "range"),
        (r"[\d-z]", "range"),
        ("\\", "ends in the middle"),
        ("é", "ASCII"),
        ("a" * 1025, "longer"),
        ("(" * 500 + ")" * 500, f"{MAX_DEPTH} ("),
    ],
)
def test_what_is_not_accepted_is_said(expression: str, complaint: str) -> None:
    with pytest.raises(BadExpression, match=re.escape(complaint)):
        Expression(expression)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"^(a+)+$", b"a" * 2000 + b"b"),  # exponential by backtracking
        (r"(a|a)*b", b"a" * 2000),
        ("^" + "a?" * 30 + "a" * 30 + "$", b"a" * 30),
        (r"(.*)(.*)(.*)(.*)x", b"a" * 16000),
        (r"[a-z]+1", b"a" * 16000),  # quadratic, as every place is tried
    ],
)
def test_hostile_texts_end_soon(expression: str, text: bytes) -> None:
    compiled = Expression(expression)
    began = time.process_time()
    try:
        found = compiled.search(text)
    except TooDear:
        found = None
    if len(text) > 30:
        assert found is None
    else:
        assert found == (0, 30)
    assert time.process_time() - began < 2.0, "some 30 ms are expected, hours are what backtracking would take"


def test_usual_expressions_never_leave_the_fast_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def dear(self: Expression, text: bytes) -> None:
        raise AssertionError

    monkeypatch.setattr(Expression, "walk", dear)
    assert Expression(r"^/api/(.*)$").search(b"/api/" + b"a" * 16000) == (0, 16005, 5, 16005)
    assert Expression(r"^/([^/]+)/(.*)$").search(b"/v1/" + b"a" * 300) == (0, 304, 1, 3, 4, 304)
    with pytest.raises(AssertionError):
        Expression(r"^(a+)+$").search(b"a")
    with pytest.raises(AssertionError):
        Expression(r"a*").search(b"a" * CHEAP)


# Expressions as trees, so that all of them are in the syntax.

atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "ab", r"\d", "1"])


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        several.map("".join),
        several.map(lambda branches: f"({'|'.join(branches)})"),
        several.map(lambda branches: f"(?:{'|'.join(branches)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "*?", "+?", "??", "{0,2}?", "{1,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    )


expressions = st.tuples(
    st.sampled_from(["", "^"]), st.recursive(atoms, grown, max_leaves=6), st.sampled_from(["", "$"])
).map("".join)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(expressions, st.lists(st.sampled_from([b"a", b"b", b"1"]), max_size=8).map(b"".join))
def test_the_machine_finds_what_re_finds(expression: str, text: bytes) -> None:
    try:
        compiled = Expression(expression)
    except BadExpression as error:
        assert "can be empty" in str(error)
        return
    wanted = re.search(expression.encode(), text)
    spans = None if wanted is None else tuple(at for span in wanted.regs for at in span)
    assert compiled.walk(text) == spans
    assert compiled.search(text) == spans
