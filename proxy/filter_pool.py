"""The filters that live: made from their classes when a configuration is prepared, ended when nobody uses them.

There is one instance for each name and configuration in a process, however many listeners and rules name it, and it
stays over reloads that leave its configuration as it is. One that is no longer wanted is stopped when the last request
that began with it is over.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from .filter_chain import Reports
from .specs import FilterSpec

logger = logging.getLogger(__name__)

START_TIMEOUT = 10.0  # seconds that `start` may take: a reload waits for it
STOP_TIMEOUT = 5.0  # and `stop`: the process waits for it at its end
MAX_BACKGROUND = 1024  # on_log coroutines of one filter that run at once; further records it does not hear of


class LiveFilter:
    __slots__ = ("_background", "_ending", "_pool", "_reports", "instance", "name", "retired", "users")

    def __init__(self, name: str, instance: Any, pool: FilterPool) -> None:
        self.name = name
        self.instance = instance
        self.users = 0  # requests under way that began with it
        self.retired = False
        self._pool = pool
        self._ending = False
        self._reports = Reports()
        self._background: set[asyncio.Task[None]] = set()

    def leave(self) -> None:
        self.users -= 1
        if self.retired and not self.users:
            self._pool.end(self)

    def retire(self) -> None:
        self.retired = True
        if not self.users:
            self._pool.end(self)

    def report(self, phase: str, what: str, error: BaseException | None) -> None:
        self._reports.tell(self.name, phase, what, error)

    def begin(self, telling: Coroutine[Any, Any, object]) -> bool:
        """Run an asynchronous on_log beside everything else. False: too many of them run already."""
        if len(self._background) >= MAX_BACKGROUND:
            telling.close()
            return False
        task = asyncio.get_running_loop().create_task(self._tell(telling), name=f"on_log of {self.name}")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return True

    async def _tell(self, telling: Coroutine[Any, Any, object]) -> None:
        try:
            await telling
        except Exception as error:  # noqa: BLE001 - a stranger's code; the request it tells of is over
            self.report("on_log", f"{type(error).__name__}: {error}", error)

    async def start(self) -> None:
        """Raises ValueError, in words."""
        start = getattr(self.instance, "start", None)
        if start is not None:
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    await start()
            except Exception as error:  # a stranger's code
                raise ValueError(f"the filter {self.name} does not start: {_in_words(error)}") from error

    async def stop(self) -> None:
        """Ends what it does in the background, then itself; what goes wrong is said and is no reason to stay."""
        if self._ending:
            return
        self._ending = True
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=STOP_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        stop = getattr(self.instance, "stop", None)
        if stop is not None:
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await stop()
            except Exception as error:  # noqa: BLE001 - a stranger's code
                self.report("stop", _in_words(error), error)


class FilterPool:
    """`classes` are the filters that there are, by name."""

    def __init__(self, classes: Mapping[str, type[Any]]) -> None:
        self._classes = classes
        self._live: dict[FilterSpec, LiveFilter] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def prepare(self, wanted: Iterable[FilterSpec]) -> dict[FilterSpec, LiveFilter]:
        """Those wanted: the ones that live already, and new ones, started. Raises ValueError and leaves none behind."""
        prepared: dict[FilterSpec, LiveFilter] = {}
        try:
            for spec in wanted:
                if spec not in prepared:
                    live = self._live.get(spec)
                    if live is None:
                        live = self._made(spec)
                        await live.start()
                    prepared[spec] = live
        except BaseException:
            self.abort(prepared)
            raise
        return prepared

    def _made(self, spec: FilterSpec) -> LiveFilter:
        if spec.name not in self._classes:
            raise ValueError(f"no filter is named {spec.name}")
        try:
            kind = self._classes[spec.name]
            return LiveFilter(spec.name, kind(kind.Config.model_validate(json.loads(spec.config))), self)
        except Exception as error:  # a stranger's code
            raise ValueError(f"the filter {spec.name} cannot be made: {_in_words(error)}") from error

    def commit(self, prepared: dict[FilterSpec, LiveFilter]) -> None:
        before, self._live = self._live, prepared
        for spec, live in before.items():
            if prepared.get(spec) is not live:
                live.retire()

    def abort(self, prepared: Mapping[FilterSpec, LiveFilter]) -> None:
        for spec, live in prepared.items():
            if self._live.get(spec) is not live:
                self.end(live)

    def end(self, live: LiveFilter) -> None:
        task = asyncio.get_running_loop().create_task(live.stop(), name=f"stop of {live.name}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        """All of them. No request is under way any more."""
        self.commit({})
        if self._ending:
            await asyncio.wait(self._ending)


def _in_words(error: Exception) -> str:
    return "it takes too long" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
