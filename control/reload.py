"""Reload: the file is read again, and what changed is applied; a file with mistakes changes nothing and says why.

Reloads are asked for by SIGHUP or by a file whose content changed, and are done one after the other. Content is what
is compared, never times or inodes: an editor's rename, a ConfigMap's swapped symlink, a bind mount and NFS all look
different to stat and inotify, and alike to a reader (traefik #5037, envoy #3928).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from .config import ConfigurationError, Loaded, UnreadableError, differences, load
from .exits import CannotApply
from .runtime import ReloadResult, Runtime

log = logging.getLogger("penstock.reload")

# Seconds between two looks at the files. A change is read when two looks in a row saw the same content, so that a file
# being written is not caught half-way; so it takes effect within twice this.
WATCH_INTERVAL = 0.5


class Reloader:
    """Keeps `runtime` at what `path` says. `run()` works until it is cancelled; `request()` may be called at any time."""

    def __init__(self, path: Path, runtime: Runtime, loaded: Loaded, *, watch: bool = True) -> None:
        self._path = path
        self._runtime = runtime
        self._loaded = loaded
        self._watch = watch
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Reload soon. Any number of requests before it begins are one."""
        self._requested.set()

    async def run(self) -> None:
        """Serve requests and, if asked to watch, changes of the files. One task, hence one reload at a time."""
        applied = seen = self._digest()
        while True:
            try:
                async with asyncio.timeout(WATCH_INTERVAL if self._watch else None):
                    await self._requested.wait()
            except TimeoutError:
                before, seen = seen, self._digest()
                if seen != before or seen == applied:
                    continue
                why = "the file changed"
            else:
                self._requested.clear()
                seen = self._digest()
                why = "SIGHUP"
            applied = seen
            await self.reload(why)

    async def reload(self, why: str) -> ReloadResult:
        """Read the file and apply it. Whatever is wrong with it ends in the result and the log, not in an exception."""
        started = time.monotonic()
        result = await self._attempt(why)
        self._runtime.record_reload(result)
        took = time.monotonic() - started
        log.log(
            logging.INFO if result.successful else logging.ERROR,
            "reload (%s) %s in %.0f ms%s", why, result.outcome, took * 1000, "".join(f"\n    {m}" for m in result.messages),
        )  # fmt: skip
        return result

    async def _attempt(self, why: str) -> ReloadResult:
        def ended(outcome: Outcome, messages: Iterable[str] = ()) -> ReloadResult:
            return ReloadResult(at=time.time(), why=why, outcome=outcome, messages=tuple(messages))

        try:
            # In a thread: a file of thousands of targets takes a while to check, and traffic must not wait for it.
            loaded = await asyncio.to_thread(load, self._path, now=time.time(), materialize=True)
        except ConfigurationError as error:
            return ended("rejected", [str(mistake) for mistake in error.mistakes])
        except UnreadableError as error:
            return ended("rejected", [str(error)])
        except Exception as error:  # a bug of ours in reading a file must not end a process that serves
            log.exception("reading %s failed", self._path)
            return ended("rejected", [f"{type(error).__name__}: {error}"])
        for warning in loaded.warnings:
            log.warning("%s", warning)
        changes = differences(self._loaded.settings, loaded.settings)
        if not changes and loaded.settings == self._loaded.settings:
            self._loaded = loaded
            return ended("unchanged")
        try:
            await self._runtime.apply(loaded.settings)
        except CannotApply as error:
            return ended("rejected", [str(error)])
        self._loaded = loaded
        return ended("applied", changes)

    def _digest(self) -> bytes:
        """What all watched files hold now, as one hash; a file that cannot be read counts as one of special content."""
        whole = hashlib.blake2b(digest_size=16)
        for path in (self._path, *self._loaded.files):
            try:
                content = path.read_bytes()
            except OSError as error:
                content = repr(error.errno).encode()
            whole.update(hashlib.blake2b(content).digest())
        return whole.digest()
