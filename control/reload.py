"""Reload: the file is read again, and what changed is applied; a file with mistakes changes nothing and says why.

SIGHUP asks for it, and so does a file whose content changed; one is done after the other. Content is what is compared,
never times or inodes: an editor's rename, a ConfigMap's swapped symlink, a bind mount and NFS all look different to
stat and inotify, and alike to a reader (traefik #5037, envoy #3928).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from pathlib import Path

from .config import ConfigurationError, Loaded, UnreadableError, differences, load
from .exits import CannotApply
from .interpreter import collector_at_rest
from .runtime import Outcome, ReloadResult, Runtime

log = logging.getLogger("penstock.reload")

# Seconds between two looks at the files. A change is read when two looks in a row saw the same, so that a file which is
# being written is not caught half-way; so it takes effect within twice this.
WATCH_INTERVAL = 0.5

# Seconds until a file that was rejected is tried again although it is the same: what was missing may have come since, a
# certificate that is mounted after the configuration, or a port that somebody held.
RETRY_INTERVAL = 5.0

# From the path of each watched file to a hash of its content.
Contents = dict[Path, bytes]


class Reloader:
    """Keeps `runtime` at what `path` says. `run()` works until it is cancelled; `request()` may come at any time."""

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        loaded: Loaded,
        *,
        watch: bool = True,
        watch_interval: float = WATCH_INTERVAL,
        retry_interval: float = RETRY_INTERVAL,
    ) -> None:
        self._path = path
        self._runtime = runtime
        # Not all of what was loaded: of a large file that is a lot.
        self._settings, self._files = loaded.settings, loaded.files
        self._watch_interval = watch_interval if watch else None
        self._retry_interval = retry_interval
        self._requested = asyncio.Event()
        self._read = self._contents()  # at the last reload

    def request(self) -> None:
        """Reload soon. Any number of requests before it begins are one."""
        self._requested.set()

    async def run(self) -> None:
        """One task, hence one reload at a time."""
        seen = self._read
        retry_at = 0.0
        while True:
            try:
                async with asyncio.timeout(self._watch_interval):
                    await self._requested.wait()
                self._requested.clear()
                why, seen = "SIGHUP", await asyncio.to_thread(self._contents)
            except TimeoutError:
                before, seen = seen, await asyncio.to_thread(self._contents)
                if seen != before:
                    continue
                if seen != self._read:
                    why = "the file changed"
                elif self._rejected() and time.monotonic() >= retry_at:
                    why = "trying again"
                else:
                    continue
            await self.reload(why)
            retry_at = time.monotonic() + self._retry_interval
            # Other files may be named now. Of those known before, what counts is what they held before they were read:
            # a change since then is still to come.
            now = await asyncio.to_thread(self._contents)
            self._read = {path: seen.get(path, content) for path, content in now.items()}

    async def reload(self, why: str) -> ReloadResult:
        """Read the file and apply it. Whatever is wrong ends in the result and the log, not in an exception."""
        started = time.monotonic()
        outcome, messages = await self._attempt()
        result = ReloadResult(time.time(), why, outcome, messages)
        last = self._runtime.last_reload
        if why == "trying again" and last is not None and (outcome, messages) == (last.outcome, last.messages):
            return last  # said once is enough
        self._runtime.record_reload(result)
        level = logging.INFO if result.successful else logging.ERROR
        took = (time.monotonic() - started) * 1000
        log.log(level, "reload (%s): %s in %.0f ms", why, outcome, took)
        for message in messages:
            log.log(level, "  %s", message)
        return result

    async def _attempt(self) -> tuple[Outcome, tuple[str, ...]]:
        try:
            # In a thread: a file of thousands of targets takes a while to check, and traffic must not wait for it.
            with collector_at_rest():
                loaded = await asyncio.to_thread(load, self._path, now=time.time(), materialize=True)
            for warning in loaded.warnings:
                log.warning("%s", warning)
            changed = loaded.settings != self._settings
            changes = differences(self._settings, loaded.settings)
            if changed:
                await self._runtime.apply(loaded.settings)
            self._settings, self._files = loaded.settings, loaded.files
            with collector_at_rest():
                unnoticed = await asyncio.to_thread(loaded.unnoticed)
            for warning in unnoticed:
                log.warning("%s", warning)
        except ConfigurationError as error:
            return "rejected", tuple(map(str, error.mistakes))
        except (UnreadableError, CannotApply) as error:
            return "rejected", (str(error),)
        except Exception as error:  # a bug of ours in reading a file must not end a process that serves
            log.exception("reading %s failed", self._path)
            return "rejected", (f"{type(error).__name__}: {error}",)
        return ("applied", tuple(changes)) if changed else ("unchanged", ())

    def _rejected(self) -> bool:
        last = self._runtime.last_reload
        return last is not None and not last.successful

    def _contents(self) -> Contents:
        return {path: _content(path) for path in (self._path, *self._files)}


def _content(path: Path) -> bytes:
    """A hash of what the file holds; one that cannot be read holds the reason."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        return repr(error.errno).encode()
