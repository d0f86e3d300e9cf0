"""YAML as a reader expects it, with the place of everything."""

from __future__ import annotations

import math

import pytest

from penstock.control.config import ConfigurationError, yaml_source
from penstock.control.config.yaml_source import PureParser, parse, resolve


@pytest.fixture(params=["libyaml", "pure Python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure Python":
        monkeypatch.setattr(yaml_source, "_Parser", PureParser)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("Off", "Off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("22:22", "22:22"),
        ("012", 12),
        ("08", 8),
        ("0o12", 10),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("+5", 5),
        ("-5", -5),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("2026-11-20", "2026-11-20"),
        ("10.0.0.1", "10.0.0.1"),
        ("0b11", "0b11"),
        ("٣", "٣"),
        ("-", "-"),
        (".", "."),
        ("~", None),
        ("null", None),
        ("", None),
    ],
)
def test_a_plain_scalar_means_what_yaml_1_2_says(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_not_a_number_is_a_number() -> None:
    found = resolve(".NaN")
    assert isinstance(found, float)
    assert math.isnan(found)


def test_quotes_and_tags_make_text() -> None:
    text = "a: \"no\"\nb: '12'\nc: !!str 12\nd: ! 12\ne: |\n  12\nf: !!float 1\n"
    document = parse(text, "f")
    assert document.root.data == {"a": "no", "b": "12", "c": "12", "d": "12", "e": "12\n", "f": 1.0}
    assert not document.mistakes


def test_keys_are_text_as_written() -> None:
    assert parse("{443: a, no: b, 1.10: c, true: d}", "f").root.data == {
        "443": "a",
        "no": "b",
        "1.10": "c",
        "true": "d",
    }


TEXT = """\
load_balancer:
  name: app-lb
  listeners:
    - {port: 8080, rules: []}
    -   port: 8081
"""


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("load_balancer",), (2, 3), (1, 1)),
        (("load_balancer", "name"), (2, 9), (2, 3)),
        (("load_balancer", "listeners", 0), (4, 7), (4, 7)),
        (("load_balancer", "listeners", 0, "port"), (4, 14), (4, 8)),
        (("load_balancer", "listeners", 1, "port"), (5, 15), (5, 9)),
        (("load_balancer", "listeners", 1, "protocol"), (5, 9), (5, 9)),
        (("load_balancer", "listeners", 7, "port"), (4, 5), (4, 5)),
        (("nowhere",), (1, 1), (1, 1)),
        ((), (1, 1), (1, 1)),
    ],
)
def test_every_value_and_key_has_its_place(path: tuple[str | int, ...], value: object, key: object) -> None:
    document = parse(TEXT, "f")
    assert document.locate(path) == value
    assert document.locate_key(path) == key


def test_a_column_counts_characters_and_not_bytes() -> None:
    assert parse('a: {"ü€𝄞": 1, b: 2}', "f").locate(("a", "b")) == (1, 18)


def test_a_single_value_is_its_own_item_0() -> None:
    document = parse("listen: 127.0.0.1\n", "f")
    assert document.existing(("listen", 0)) == ("listen",)
    assert document.existing(("listen", 1)) == ("listen",)
    assert document.locate(("listen", 0)) == (1, 9)


def test_aliases_and_merge_keys_are_followed() -> None:
    text = """\
check: &check {path: /health, interval: 5s}
slow: &slow {interval: 60s, timeout: 9s}
groups:
  - {name: a, check: *check}
  - name: b
    check:
      <<: [*check, *slow]
      timeout: 1s
"""
    document = parse(text, "f")
    first, second = document.root.data["groups"]
    assert first["check"] == {"path": "/health", "interval": "5s"}
    assert second["check"] == {"path": "/health", "interval": "5s", "timeout": "1s"}
    assert document.locate(("groups", 1, "check", "interval")) == (1, 41), "where it is written, not where it is used"


def test_a_quoted_merge_key_is_a_key() -> None:
    assert parse('"<<": {a: 1}', "f").root.data == {"<<": {"a": 1}}


def test_the_last_of_two_anchors_of_one_name_counts_from_there_on() -> None:
    assert parse("a: &x 1\nb: *x\nc: &x 2\nd: *x\n", "f").root.data == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_byte_order_mark_and_windows_lines() -> None:
    document = parse(yaml_source.decode(b"\xef\xbb\xbfa: 1\r\nb: {c: 2}\r\n", "f"), "f")
    assert document.root.data == {"a": 1, "b": {"c": 2}}
    assert document.locate(("b", "c")) == (2, 8)


@pytest.mark.parametrize("head", ["---\n", "%YAML 1.2\n---\n", "%YAML 1.1\n---\n"])
def test_a_document_may_be_marked_as_one(head: str) -> None:
    assert parse(f"{head}a: no\n...\n", "f").root.data == {"a": "no"}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{b: " * 100_000,
        "- " * 100_000,
        "a: &a [*a]",
        "a: &a {b: {<<: *a}}",
        "a0: &a0 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200)),
        "a0: &a0 [1, 2, 3, 4]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
        "a: {b: 1, c: &c [*c]",
        "!<" * 1000,
        'a: "\\ud800"',
        "? " * 1000,
        "a: *" + "b" * 100_000,
        "\x00",
        "\ufffe",
        "\ud800",
    ],
    ids=range(15),
)
def test_what_is_made_to_hurt_is_one_located_mistake(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f")
    mistake = caught.value.mistakes[-1]
    assert mistake.line >= 1
    assert mistake.column >= 1
    assert len(mistake.message) < 300


def test_tags_that_run_code_elsewhere_are_mistakes() -> None:
    document = parse("a: !!python/name:os.system x\nb: !!python/object/apply:os.system [id]\nc: !env HOME\n", "f")
    assert [mistake.path for mistake in document.mistakes] == ["a", "b", "c"]
