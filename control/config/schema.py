"""The configuration's JSON Schema (2020-12), which editors read: names, types, defaults and what each key is for."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .models import Configuration


def json_schema() -> dict[str, Any]:
    schema = Configuration.model_json_schema(schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, **schema, "title": "Penstock configuration"}


class _Generator(GenerateJsonSchema):
    """As pydantic's, without titles that repeat the key, and without null: a key that has no value is a mistake."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        # None is not a value that can be written, and a section's default is that of its keys.
        if isinstance(described.get("default"), dict | None):
            described.pop("default", None)
        return described
