"""Follows the names of targets: asks again when their time is over, and says when the addresses are others.

One task a name. Who answers is handed in: the planes do not know each other, so the proxy knows a resolver only as
something to call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet

from .names import Answer, Denied, Failed, Name

log = logging.getLogger(__name__)

# Seconds to wait for the first answers, so that a start or a reload does not begin with 503 for a name that resolves.
FIRST_WAIT = 3.0

# Resolves one host name, or raises Denied or Failed.
LookUp = Callable[[str], Awaitable[Answer]]


class Resolution:
    """`addresses` is what the names followed resolve to now; `changed` is called when it becomes another."""

    def __init__(self, look_up: LookUp, changed: Callable[[], None]) -> None:
        self._look_up = look_up
        self._changed = changed
        self.names: dict[str, Name] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._first: dict[str, asyncio.Event] = {}

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        return {host: name.addresses for host, name in self.names.items()}

    async def add(self, hosts: AbstractSet[str]) -> None:
        """Follow these too; returns when all that are new were asked for once, or after FIRST_WAIT."""
        new = [host for host in hosts if host not in self._tasks]
        for host in new:
            self.names[host] = Name()
            self._first[host] = asyncio.Event()
            self._tasks[host] = asyncio.create_task(self._follow(host), name=f"resolve {host}")
        if new:
            try:
                async with asyncio.timeout(FIRST_WAIT):
                    for host in new:
                        await self._first[host].wait()
            except TimeoutError:
                pass  # they join when they resolve

    def keep(self, hosts: AbstractSet[str]) -> None:
        """Follow no others any more."""
        for host in self._tasks.keys() - hosts:
            self._tasks.pop(host).cancel()
            del self.names[host], self._first[host]

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        self.keep(frozenset())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, host: str) -> None:
        name, first = self.names[host], self._first[host]
        loop = asyncio.get_running_loop()
        while True:
            outcome = await self._ask(host)
            trouble = name.trouble
            changed = name.learn(outcome, loop.time())
            if name.trouble and name.trouble != trouble:
                kept = f"; going on with {', '.join(name.addresses)}" if name.addresses else ""
                log.warning("target %s cannot be resolved: %s%s", host, name.trouble, kept)
            elif trouble and not name.trouble:
                log.info("target %s resolves again", host)
            if changed:
                log.info("target %s is now %s", host, ", ".join(name.addresses) or "nowhere")
                self._changed()
            first.set()
            await asyncio.sleep(name.due - loop.time())

    async def _ask(self, host: str) -> Answer | Denied | Failed:
        try:
            return await self._look_up(host)
        except (Denied, Failed) as outcome:
            return outcome
        except OSError as error:
            return Failed(error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - a bug in a look-up must not end the asking for good
            return Failed(f"{type(error).__name__}: {error}")
