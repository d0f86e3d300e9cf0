"""What has registered, kept in the state directory over a restart: one JSON object a line, written whole and renamed.

It is written on a thread, soon after a change and never for more than a twentieth of the time; so a crash may lose the
last second or more, and nobody who registers waits for a disk. Whoever sends heartbeats is not kept: he comes back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("penstock.registrations")

FILE_NAME: Final = "instances.jsonl"
PAUSE: Final = 1.0  # seconds between a change and its being written, in which there may be others
SHARE: Final = 20  # the pause is at least so many times what writing took last

Record = dict[str, Any]


class Journal:
    """`records` is called on the loop, and what it returns is read on the thread that writes."""

    def __init__(self, records: Callable[[], Iterable[Record]]) -> None:
        self.directory: Path | None = None  # None: nothing is kept
        self._records = records
        self._changed = False
        self._took = 0.0
        self._hurry = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def changed(self) -> None:
        self._changed = True
        if self.directory is not None and self._writing is None:
            self._writing = asyncio.create_task(self._write_soon(), name="journal of registrations")

    async def close(self) -> None:
        """What is not written yet is written now."""
        self._hurry.set()
        if self._writing is not None:
            await self._writing

    async def _write_soon(self) -> None:
        while self._changed and self.directory is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(PAUSE, SHARE * self._took)):
                    await self._hurry.wait()
            self._changed = False
            began = time.monotonic()
            try:
                await asyncio.to_thread(write, self.directory / FILE_NAME, self._records())
            except OSError as error:
                log.error("what has registered cannot be kept in %s: %s", self.directory, error.strerror)
            self._took = time.monotonic() - began
        self._writing = None


def write(path: Path, records: Iterable[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            for record in records:  # line by line, so that the loop's thread gets its turns
                file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def read(path: Path) -> Iterator[Record]:
    """What can be read of it. A line that cannot is said and passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        log.error("%s cannot be read, nothing of it is restored: %s", path, error)
        return
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield record
        else:
            log.error("%s:%d is no record of an instance and is passed over", path, number)
