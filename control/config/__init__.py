"""From a YAML file to what the planes do, or to every mistake in it with line and column.

yaml_source → validation (models, scalars) → check_* → certificates → compile → Settings. `load` is the way in.
"""

from __future__ import annotations

from .diff import differences
from .loading import Loaded, load, load_text
from .mistakes import ConfigurationError, Mistake, UnreadableError
from .schema import json_schema
from .settings import AccessLogSettings, Settings

__all__ = [
    "AccessLogSettings",
    "ConfigurationError",
    "Loaded",
    "Mistake",
    "Settings",
    "UnreadableError",
    "differences",
    "json_schema",
    "load",
    "load_text",
]
