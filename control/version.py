"""Which Penstock this is: what the distribution says, so that it is written in one place (pyproject.toml)."""

from __future__ import annotations

from importlib import metadata

VERSION = metadata.version("penstock")
