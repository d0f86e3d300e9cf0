"""What covers what: rows, and the claim that matters, that what is called covered makes no difference."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.coverage import Admission, conditions_cover, covered, pattern_covers, shadowed
from penstock.proxy.patterns import AnyOf
from penstock.proxy.rules import RuleTable
from penstock.proxy.specs import Conditions, FixedResponse, RuleSpec

from .test_rules import conditions, fields, requests


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (b"*", b"anything*", True),
        (b"/api/*", b"/api/v1/*", True),
        (b"/api/*", b"/api", False),
        (b"/api/v1/*", b"/api/*", False),
        (b"*.example.org", b"a.example.org", True),
        (b"*.example.org", b"*.a.example.org", True),
        (b"a?c", b"abc", True),
        (b"a?c", b"a*c", False),
        (b"a?c", b"a?c", True),
        (b"abc", b"a?c", False),
        (b"*a*b*", b"xaxbx", True),
        (b"?*", b"*", False),  # `*` fits the empty text
        (b"**", b"*", True),
    ],
)
def test_patterns(wide: bytes, narrow: bytes, covers: bool) -> None:
    assert pattern_covers(wide, narrow) is covers


TEXTS = [bytes(text) for size in range(5) for text in product(b"ab", repeat=size)]
patterns = st.lists(st.sampled_from("ab*?"), max_size=5).map(lambda parts: "".join(parts).encode())


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(patterns, patterns)
def test_whatever_a_covered_pattern_fits_the_wide_one_fits(wide: bytes, narrow: bytes) -> None:
    if pattern_covers(wide, narrow):
        both = AnyOf([wide]), AnyOf([narrow])
        assert all(both[0].fits(text) for text in TEXTS if both[1].fits(text))


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (Conditions(path=("/*",)), Conditions(path=("/a", "/b/*")), True),
        (Conditions(path=("/a",)), Conditions(path=("/a", "/b")), False),
        (Conditions(path=("/A",)), Conditions(path=("/a",)), False),
        (Conditions(host=("A.example.org",)), Conditions(host=("a.EXAMPLE.org",), path=("/x",)), True),
        (Conditions(host=("a",), method=("GET",)), Conditions(host=("a",)), False),
        (Conditions(method=("GET", "POST")), Conditions(method=("GET",)), True),
        (Conditions(header=(("x", ("a*",)),)), Conditions(header=(("X", ("AB",)), ("y", ("1",)))), True),
        (Conditions(header=(("x", ("a",)), ("y", ("1",)))), Conditions(header=(("x", ("a",)),)), False),
        (Conditions(query=((("*", ("1",)),),)), Conditions(query=((("a", ("1",)),), (("b", ("1",)),))), True),
        (Conditions(query=((("a", ("1",)),),)), Conditions(query=((("a", ("1",)),), (("b", ("1",)),))), False),
        (Conditions(source_ip=("10.0.0.0/8",)), Conditions(source_ip=("10.1.0.0/16", "10.2.0.1/32")), True),
        (Conditions(source_ip=("10.0.0.0/8",)), Conditions(path=("/",)), False),
    ],
)
def test_conditions(wide: Conditions, narrow: Conditions, covers: bool) -> None:
    assert conditions_cover(wide, narrow) is covers


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.lists(conditions, max_size=12), requests)
def test_no_request_reaches_a_rule_that_is_called_shadowed(many, some_requests) -> None:
    rules = [RuleSpec(n, each, FixedResponse(200)) for n, each in enumerate(many, 1)]
    idle = {str(rule.priority) for rule, _ in shadowed(rules)}
    table = RuleTable(rules, FixedResponse(404))
    for method, host, path, values in some_requests:
        assert table.match(method, host, path, fields(x_one=values)).label not in idle


def test_ten_thousand_rules_are_compared_with_few() -> None:
    rules = [RuleSpec(n, Conditions(host=(f"h{n}.example.org",)), FixedResponse(200)) for n in range(1, 10_000)]
    rules += [RuleSpec(10_000, Conditions(host=("h77.example.org",), path=("/x",)), FixedResponse(200))]
    assert [(rule.priority, earlier.priority) for rule, earlier in shadowed(rules)] == [(10_000, 77)]


ANY = (0, 255)
NARROW = (16, 31)


@pytest.mark.parametrize(
    ("rules", "ordered", "idle"),
    [
        ([Admission("tcp", (80, 80), NARROW), Admission("tcp", (80, 443), ANY)], False, [(0, 1)]),
        ([Admission("tcp", (80, 80), NARROW), Admission("tcp", (80, 443), ANY)], True, []),
        ([Admission("tcp", (80, 443), ANY), Admission("tcp", (80, 80), NARROW)], True, [(1, 0)]),
        ([Admission("tcp", (80, 80), ANY), Admission("tcp", (80, 80), ANY)], False, [(1, 0)]),
        ([Admission("tcp", (80, 80), ANY), Admission("udp", (80, 80), ANY)], False, []),
        ([Admission("all", (0, 65535), ANY), Admission("udp", (80, 80), NARROW)], False, [(1, 0)]),
        ([Admission("tcp", (80, 90), ANY), Admission("tcp", (85, 95), ANY)], False, []),
        ([Admission("tcp", (80, 90), None, "web"), Admission("tcp", (85, 85), None, "web")], False, [(1, 0)]),
        ([Admission("tcp", (80, 90), None, "web"), Admission("tcp", (85, 85), None, "api")], False, []),
        ([Admission("tcp", (80, 90), None, "web"), Admission("tcp", (85, 85), ANY)], False, []),
    ],
)
def test_firewall_rules(rules: list[Admission], ordered: bool, idle: list[tuple[int, int]]) -> None:
    assert list(covered(rules, ordered=ordered)) == idle
