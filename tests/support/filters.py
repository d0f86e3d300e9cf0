"""Filters for tests: what they have in common, how a listener names them, how a library installs them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel

from penstock.proxy.specs import FilterSpec

from .loop import SETTLE_SECONDS


class Config(BaseModel):
    word: str = "hello"


class Filter:
    Config: ClassVar[type[BaseModel]] = Config

    def __init__(self, config: Any) -> None:
        self.word = config.word


def filters(*names: str, **config: Any) -> dict[str, Any]:
    return {"filters": tuple(FilterSpec(name, json.dumps(config)) for name in names)}


def installed(kind: type[Any]) -> dict[str, Any]:
    return {"installed": {"it": kind}, **filters("it")}


async def until(happened: Callable[[], object]) -> None:
    async with asyncio.timeout(SETTLE_SECONDS * 5):
        while not happened():
            await asyncio.sleep(0.002)
