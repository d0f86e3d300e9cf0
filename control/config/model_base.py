"""What every model of the configuration is: frozen, closed to unknown keys, and open to a description and tags."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .scalars import Text


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Described(Model):
    description: Text | None = None
    """For people. Penstock does not read it."""
    tags: dict[str, Text] = Field(default_factory=dict)
    """Free pairs of text, for people and tools."""
