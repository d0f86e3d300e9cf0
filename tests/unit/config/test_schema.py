"""The JSON Schema for editors, as it was agreed on, and what it promises."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock.control.config import json_schema

GOLDEN = Path(__file__).parent / "schema.json"


def _objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "Configuration", schema
    yield from schema["$defs"].items()


def test_it_is_what_it_was() -> None:
    """`UPDATE_GOLDEN=1 pytest tests/unit/config` after a deliberate change; read the diff."""
    found = json.dumps(json_schema(), indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_it_says_which_dialect_it_is_in() -> None:
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_is_explained_and_no_other_is_allowed() -> None:
    for name, definition in _objects(json_schema()):
        assert definition["additionalProperties"] is False, name
        for key, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{key}"


def test_null_is_nowhere() -> None:
    text = json.dumps(json_schema())
    assert "null" not in text
