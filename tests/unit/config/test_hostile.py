"""Whatever a file holds, the answer is settings or mistakes with a place, never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.control.config import ConfigurationError, Mistake, load_text
from support.loaded import NOW

TEXT = (Path(__file__).parents[3] / "configs" / "quickstart.yaml").read_text()
TREE = yaml.safe_load(TEXT)

WORDS = ["", "all", "0.0.0.0/0", "tg-web", "dev", "-1", "1-2", "30s", "::", "HTTP", "#{path}", "web-sg", "app-acl"]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


def mistakes_in(text: str) -> tuple[Mistake, ...]:
    try:
        load_text(text, "f", directory=Path("/nowhere"), now=NOW)
    except ConfigurationError as error:
        return error.mistakes
    return ()


def check(text: str) -> None:
    lines = len(text.splitlines()) + 1
    for mistake in mistakes_in(text):
        assert 1 <= mistake.line <= lines
        assert mistake.column >= 1
        assert mistake.message


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(places(TREE)[1:]), VALUES), min_size=1, max_size=3))
def test_anything_in_place_of_anything(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    tree = TREE
    for path, value in changes:
        try:
            tree = replaced(tree, path, value)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took the place away
    check(yaml.safe_dump(tree, allow_unicode=True))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, len(TEXT)), st.integers(0, 40), st.text(max_size=5))
def test_a_slip_of_the_hand(at: int, length: int, instead: str) -> None:
    check(TEXT[:at] + instead + TEXT[at + length :])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(alphabet="{}[]:,-?&*!|>'\"%@` \t\nab01<#", max_size=60))
def test_any_text(text: str) -> None:
    check(text)
