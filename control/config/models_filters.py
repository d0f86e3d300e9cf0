"""A filter that listeners and rules name, as a type."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .model_base import Described
from .scalars import Text


class Filter(Described):
    name: Text
    """As its package offers it, under the entry-point group penstock.http_filters."""
    config: dict[str, Any] = Field(default_factory=dict)
    """What it wants to be told; its own keys, checked by itself."""
