"""The running whole: the one place that names everything, and the order in which it is built, changed and ended.

A change is made in two phases over all parts. First each prepares: binds what is new beside what runs, and may fail.
Only when all are prepared does each commit, which cannot fail and takes no turn of the loop, so no request sees half
of two configurations. If one cannot prepare, all are aborted and nothing has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, Protocol

from ..dns.server import DnsServer
from ..proxy.access_log import AccessLog
from ..proxy.checks import Checker
from ..proxy.health import CheckKey, HealthTable
from ..proxy.server import Proxy
from .admin.server import Admin
from .config import Settings
from .exits import CannotApply, host_port, is_loopback, why_not

log = logging.getLogger("penstock")

Phase = Literal["starting", "ready", "draining", "stopped"]
Outcome = Literal["applied", "unchanged", "rejected"]


class Prepared(Protocol):
    """What `prepare` of any part returns: exactly one of the two is called, once."""

    def commit(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How one reload ended. `messages` are the changes if it was applied, the reasons if it was rejected."""

    at: float
    why: str
    outcome: Outcome
    messages: tuple[str, ...] = ()

    @property
    def successful(self) -> bool:
        return self.outcome != "rejected"


class Runtime:
    """Everything that runs under one configuration. Build it inside the loop that it is to run on."""

    def __init__(self) -> None:
        self.health = HealthTable()
        self.proxy = Proxy(self.health)
        self.dns = DnsServer(self.health)
        self.checker = Checker(self.health, connect_allowed=self.proxy.connect_allowed)
        self.admin = Admin(self)
        self.settings: Settings | None = None
        self.phase: Phase = "starting"
        self.started_at = time.time()
        self.applied_at = 0.0
        self.reloads: Counter[Outcome] = Counter(applied=0, unchanged=0, rejected=0)
        self.last_reload: ReloadResult | None = None
        self._changing = asyncio.Lock()
        self.health.subscribe(self._health_changed)

    @property
    def ready(self) -> bool:
        return self.phase == "ready"

    async def start(self, settings: Settings) -> None:
        """Begin to serve. CannotApply says in a sentence what this machine does not allow; nothing is open then."""
        try:
            await self.apply(settings)
        except BaseException:
            await self._close(grace=0.0)
            raise
        if self.phase == "starting":  # a signal may have come in between
            self.phase = "ready"

    async def apply(self, settings: Settings) -> None:
        """Become what `settings` say, or raise CannotApply and be what we were."""
        async with self._changing:
            parts = (
                (self.proxy, settings.proxy),
                (self.dns, settings.dns),
                (self.admin, settings.admin),
            )
            prepared: list[Prepared] = []
            with contextlib.ExitStack() as undo:
                for part, wanted in parts:
                    one = await _prepared(part.prepare(wanted))
                    undo.callback(one.abort)
                    prepared.append(one)
                undo.pop_all()
            for one in prepared:
                one.commit()
            self.checker.apply(self.proxy.check_keys() | settings.dns_checks)
            self.settings = settings
            self.applied_at = time.time()
        if settings.admin is not None and not is_loopback(settings.admin[0]):
            log.warning("the admin address %s has no password and is not loopback: whoever reaches it can read it",
                        host_port(*settings.admin))  # fmt: skip

    async def stop(self, grace: float | None = None) -> None:
        """Say so on /readyz, close the listeners, let what began finish within `grace`, and end."""
        self.phase = "draining"
        async with self._changing:
            if grace is None:
                grace = self.settings.drain if self.settings else 0.0
            await self._close(grace)

    async def _close(self, grace: float) -> None:
        await asyncio.gather(self.proxy.stop(grace), self.dns.stop(grace))
        await self.checker.stop()
        await self.admin.stop()
        self.phase = "stopped"

    def record_reload(self, result: ReloadResult) -> None:
        self.reloads[result.outcome] += 1
        self.last_reload = result

    def _health_changed(self, keys: frozenset[CheckKey]) -> None:
        """Called by the table in the very turn in which a state flips, so DNS answers by it from the next packet on."""
        self.dns.health_changed(keys)
        for key in keys:
            record = self.health.view[key]
            address = host_port(key.ip, key.port)
            if record.state == "healthy":
                log.info("target %s is healthy", address)
            else:
                log.warning("target %s is %s: %s", address, record.state, record.description)


async def _prepared(preparing: Awaitable[Prepared]) -> Prepared:
    try:
        return await preparing
    except (OSError, ValueError) as error:
        raise CannotApply(why_not(error)) from error
