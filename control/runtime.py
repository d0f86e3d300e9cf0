"""The running whole: the one place that names everything, and the order in which it is built, changed and ended.

A configuration is applied to all parts or to none (change.py), so no request sees half of two. What follows from a
state of health is done in the very turn of the loop in which it flips: DNS and load balancing never disagree.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from ..dns.server import DnsServer
from ..proxy.access_log import AccessLog
from ..proxy.checks import Checker
from ..proxy.health import CheckKey, HealthTable
from ..proxy.server import Proxy
from .admin.server import Admin
from .change import UNCHANGED, Change, Prepared, all_or_nothing
from .exits import CannotApply, cannot_listen, host_port, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..proxy.firewall import Firewall
    from .config import AccessLogSettings, Settings

log = logging.getLogger("penstock")

Phase = Literal["starting", "ready", "draining", "stopped"]
Outcome = Literal["applied", "unchanged", "rejected"]


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
    """Everything that runs under one configuration. Build it inside the loop that it is to run on.

    runtime = Runtime()
    await runtime.start(load(path, now=time.time(), materialize=True).settings)
    ...
    await runtime.stop()
    """

    def __init__(self) -> None:
        self.health = HealthTable()
        self.proxy = Proxy(self.health)
        self.dns = DnsServer(self.health)
        self.checker = Checker(self.health, connect_allowed=self._why_denied, rng=random.Random())
        self.admin = Admin(self)
        self.access_log: AccessLog | None = None
        self.settings: Settings | None = None
        self.phase: Phase = "starting"
        self.started_at = time.time()
        self.applied_at = 0.0
        self.reloads: dict[Outcome, int] = {"applied": 0, "unchanged": 0, "rejected": 0}
        self.last_reload: ReloadResult | None = None
        self._changing = asyncio.Lock()
        self._firewalls: dict[CheckKey, set[Firewall]] = {}
        self.health.subscribe(self._health_changed)

    @property
    def ready(self) -> bool:
        return self.phase == "ready"

    @property
    def bound(self) -> list[tuple[str, int]]:
        """Every address that is listened on."""
        listeners = [listener.bound for listener in self.proxy.listeners.values()]
        return [*listeners, *self.dns.bound, *filter(None, [self.admin.bound])]

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
            with self._in_words():
                await all_or_nothing(
                    (
                        partial(self.proxy.prepare, settings.proxy),
                        partial(self.dns.prepare, settings.dns),
                        partial(self.admin.prepare, settings.admin),
                        # After the proxy, whose new listeners are to have it too.
                        partial(self._prepare_access_log, settings.access_log),
                    )
                )
            self._firewalls = _firewalls_of_checks(self.proxy)
            self.checker.apply(self.proxy.check_keys() | settings.dns_checks)
            self.settings = settings
            self.applied_at = time.time()
        if settings.admin is not None and not is_loopback(settings.admin[0]):
            log.warning(
                "the admin address %s has no password and is not loopback: whoever reaches it can read it",
                host_port(*settings.admin),
            )

    async def stop(self, grace: float | None = None) -> None:
        """Say so on /readyz, close the listeners, let what began end within `grace` (else the settings' drain)."""
        self.phase = "draining"
        async with self._changing:
            if grace is None:
                grace = self.settings.drain if self.settings else 0.0
            await self._close(grace)

    async def _close(self, grace: float) -> None:
        """Checks go on while requests drain. The admin address goes last: it is where one sees the others go."""
        await asyncio.gather(self.proxy.stop(grace), self.dns.stop(grace))
        await self.checker.stop()
        await self.admin.stop()
        if self.access_log is not None:
            self.access_log.close()
        self.phase = "stopped"

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotApply(cannot_listen(error, self.bound)) from error
        except ValueError as error:
            raise CannotApply(str(error)) from error

    def reopen_access_log(self) -> None:
        """After its file was moved away, for rotation."""
        if self.access_log is not None:
            self.access_log.reopen()

    def record_reload(self, result: ReloadResult) -> None:
        self.reloads[result.outcome] += 1
        self.last_reload = result

    async def _prepare_access_log(self, wanted: AccessLogSettings | None) -> Prepared:
        if self.settings is not None and wanted == self.settings.access_log:
            return UNCHANGED
        try:
            new = None if wanted is None else AccessLog(wanted.path, wanted.format)
        except OSError as error:
            raise CannotApply(f"cannot write the access log {error.filename}: {error.strerror}") from error

        def commit() -> None:
            old, self.access_log = self.access_log, new
            self.proxy.use_access_log(new)
            if old is not None:
                old.close()

        return Change(commit, abort=lambda: new.close() if new is not None else None)

    def _health_changed(self, keys: frozenset[CheckKey]) -> None:
        self.dns.health_changed(keys)
        for key in keys:
            record = self.health.view[key]
            address = host_port(key.ip, key.port)
            if record.state == "healthy":
                log.info("target %s is healthy", address)
            else:
                log.warning("target %s is %s: %s", address, record.state, record.description)

    def _why_denied(self, key: CheckKey) -> str | None:
        """A check is as free as its freest group: the firewall that denies all of them denies it, in its own words."""
        denial = None
        for firewall in self._firewalls.get(key, ()):
            verdict = firewall.opening(key.ip, key.port)
            if verdict.allowed:
                return None
            denial = verdict.reason
        return denial


def _firewalls_of_checks(proxy: Proxy) -> dict[CheckKey, set[Firewall]]:
    """Which firewalls stand before each check. A check that an unguarded group makes too is left out."""
    guarded: defaultdict[CheckKey, set[Firewall]] = defaultdict(set)
    unguarded: set[CheckKey] = set()
    for group in proxy.groups.values():
        keys = {target.check_key for target in group.targets if target.check_key is not None and not target.draining}
        if group.firewall is None:
            unguarded |= keys
            continue
        for key in keys:
            guarded[key].add(group.firewall)
    return {key: firewalls for key, firewalls in guarded.items() if key not in unguarded}
