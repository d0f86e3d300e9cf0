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
from typing import TYPE_CHECKING, Any, Literal

from ..dns.counters import DnsCounters
from ..dns.reservation import DnsReservation
from ..dns.server import DnsServer
from ..proxy.access_log import AccessLog
from ..proxy.checks import Checker
from ..proxy.health import CheckKey, HealthTable
from ..proxy.resolution import Resolution
from ..proxy.server import Proxy
from .admin.server import Admin
from .change import UNCHANGED, Change, Prepared, prepare_all
from .discovery import Discovery
from .dns_tls import context_for
from .exits import CannotApply, cannot_listen, host_port, is_loopback
from .explain import live_report
from .filters import InstalledFilters
from .look_up import DnsLookUp
from .named_services import dns_at
from .overlay import Overlay
from .processors import worker_count
from .totals import filled, show
from .workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..dns.registrations import Entries
    from ..dns.specs import DnsSpec
    from ..proxy.firewall import Firewall
    from ..proxy.sharing import Sharing
    from .config import AccessLogSettings, Settings

log = logging.getLogger("penstock")

# Seconds to go on accepting after SIGTERM, so that whoever sends clients here sees /readyz fail first: three probes of
# a load balancer that asks every five seconds. Only while somebody does ask; else it would be waiting for nobody.
GRACE = 15.0
ASKED_WITHIN = 60.0

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

    With more than one of `workers` it serves nobody itself: it reserves the addresses, checks health, and has worker
    processes do the rest. Inside of such a process is a runtime too, whose addresses are `shared`.
    """

    def __init__(self, *, workers: int = 1, sharing: Sharing = "alone") -> None:
        self.health = HealthTable()
        self.workers = Workers(workers, self.health) if workers > 1 else None
        self.proxy = Proxy(self.health, sharing="reserved" if self.workers else sharing, filters=InstalledFilters())
        self.dns = (
            DnsReservation(self.health)
            if self.workers
            else DnsServer(self.health, shared=sharing == "shared", contexts=context_for)
        )
        self.checker = Checker(self.health, connect_allowed=self._why_denied, rng=random.Random())
        self.overlay = Overlay(self.dns)
        self.discovery = Discovery(self.dns, self.overlay, self.workers, self._check)
        self.look_up = DnsLookUp()
        self.resolution = Resolution(self.look_up, self._addresses_changed)
        self.admin = Admin(self)
        self.access_log: AccessLog | None = None
        self.settings: Settings | None = None
        self.phase: Phase = "starting"
        self.readiness_asked: float | None = None  # when /readyz was asked last, by the monotonic clock
        self.started_at = time.time()
        self.applied_at = 0.0
        self.reloads: dict[Outcome, int] = {"applied": 0, "unchanged": 0, "rejected": 0}
        self.last_reload: ReloadResult | None = None
        self._addresses: Mapping[str, tuple[str, ...]] = {}  # of targets by name, for the services that they are in
        self._answered: DnsSpec | None = None  # what DNS answers by now
        self._settling: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._firewalls: dict[CheckKey, set[Firewall]] = {}
        self._is_worker = sharing == "shared"
        self.health.subscribe(self._health_changed)

    @property
    def ready(self) -> bool:
        return self.phase == "ready" and (self.workers is None or self.workers.serving)

    @property
    def out_of_descriptors(self) -> bool:
        """New clients are turned away, here or by one of the workers at least."""
        workers = self.workers.statuses() if self.workers is not None else ()
        return self.proxy.intake.is_full() or any(worker.out_of_descriptors for worker in workers)

    @property
    def drain(self) -> float:
        """Seconds that requests may finish when nothing more is accepted."""
        return self.settings.drain if self.settings else 0.0

    @property
    def bound(self) -> list[tuple[str, int]]:
        """Every address that is listened on."""
        listeners = [listener.bound for listener in self.proxy.listeners.values()]
        secure = [(address, port) for address, port, _ in self.dns.bound_secure]
        return [*listeners, *self.dns.bound, *secure, *filter(None, [self.admin.bound])]

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
            await self.look()  # a target that is removed drains here for as long as something is in flight there
            try:
                await self._find_names(settings)
                (await self.prepare(settings)).commit()
            finally:
                self._follow_names()
            if self.workers is not None:
                await self.workers.settled()
        count = self.workers.count if self.workers is not None else 1
        if worker_count(settings.workers) != count:
            log.warning("workers: %s is for the next start; this process has %d", settings.workers, count)
        if settings.admin is not None and not is_loopback(settings.admin[0]):
            log.warning(
                "the admin address %s has no password and is not loopback: whoever reaches it can read it",
                host_port(*settings.admin),
            )

    async def prepare(self, settings: Settings, registered: Entries | None = None) -> Prepared:
        """All that can fail of becoming what `settings` say. The caller sees to it that only one is under way.

        In a worker with those who have `registered`, as the supervisor says.
        """
        dns = dns_at(settings, self._addresses)
        self.overlay.begin()
        with self._in_words(), self._or_abort():
            self.overlay.use(await self.discovery.entries(settings, dns) if registered is None else registered)
            prepared = await prepare_all(
                (
                    partial(self.proxy.prepare, settings.proxy),
                    partial(self._prepare_dns, dns),
                    partial(self.admin.prepare, settings.admin),
                    # After the proxy, whose new listeners are to have it too.
                    partial(self._prepare_access_log, settings.access_log)
                    if self.workers is None
                    # After the addresses were reserved: what is wrong with those is said once, and here.
                    else partial(self._prepare_workers, self.workers, settings),
                )
            )

        def commit() -> None:
            prepared.commit()
            self.settings, self._answered = settings, dns
            self.applied_at = time.time()
            if not self._is_worker:
                self.discovery.commit(settings, dns)
                self._addresses_changed()

        return Change(commit, prepared.abort)

    async def _prepare_dns(self, dns: DnsSpec) -> Prepared:
        """With what has registered."""
        prepared = await self.dns.prepare(await self.overlay.over(dns))

        def commit() -> None:
            prepared.commit()
            self.overlay.commit()

        def abort() -> None:
            prepared.abort()
            self.overlay.abort()

        return Change(commit, abort)

    async def _prepare_workers(self, workers: Workers, settings: Settings) -> Prepared:
        before, workers.registered = workers.registered, self.overlay.coming
        try:
            return await workers.prepare(settings, self.proxy.sockets_to_hand_over())
        except BaseException:
            workers.registered = before
            raise

    async def look(self) -> None:
        """Bring the counters up to date, where they are those of other processes."""
        if self.workers is not None:
            await self.workers.look()
            total = self.workers.total()
            show(total, self.proxy)
            assert isinstance(self.dns, DnsReservation)
            self.dns.counters = filled(DnsCounters, total.dns)
            self.dns.top_names = total.top_names

    async def explain(self, request_id: bytes) -> dict[str, Any] | None:
        """Why a recent request went where it went, whichever process served it; None for one that nobody remembers."""
        if self.workers is not None:
            return await self.workers.explain(request_id)
        found = self.proxy.explain(request_id)
        return None if found is None else live_report(*found)

    def wind_down(self) -> float:
        """Say on /readyz that the end is near, and to clients that their connections are: no more than that changes.

        Returns for how many seconds this should last before `stop()`.
        """
        self.phase = "draining"
        self.proxy.wind_down()
        if self.workers is not None:
            self.workers.wind_down()
        if self.settings is not None and self.settings.grace is not None:
            return self.settings.grace
        asked = self.readiness_asked
        return GRACE if asked is not None and time.monotonic() - asked <= ASKED_WITHIN else 0.0

    async def stop(self, grace: float | None = None) -> None:
        """Say so on /readyz, close the listeners, let what began end within `grace` (else the settings' drain)."""
        self.phase = "draining"
        async with self._changing:
            await self._close(self.drain if grace is None else grace)

    async def _close(self, grace: float) -> None:
        """Checks go on while requests drain. The admin address goes last: it is where one sees the others go."""
        if self._settling is not None:
            self._settling.cancel()
        await self.discovery.stop()
        parts = [self.proxy, self.dns, self.workers] if self.workers is not None else [self.proxy, self.dns]
        await asyncio.gather(*(part.stop(grace) for part in parts))
        await self.resolution.stop()
        await self.look_up.stop()
        await self.checker.stop()
        await self.admin.stop()
        if self.access_log is not None:
            self.access_log.close()
        self.phase = "stopped"

    @contextmanager
    def _or_abort(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.overlay.abort()
            raise

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CannotApply(cannot_listen(error, self.bound)) from error
        except ValueError as error:
            raise CannotApply(str(error)) from error

    def reopen_logs(self) -> None:
        """After their files were moved away, for rotation."""
        if self.access_log is not None:
            self.access_log.reopen()
        if isinstance(self.dns, DnsServer):
            self.dns.reopen_query_log()
        if self.workers is not None:
            self.workers.reopen_logs()

    def kill_workers(self) -> None:
        """For an end at once."""
        if self.workers is not None:
            self.workers.kill()

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

    async def _find_names(self, settings: Settings) -> None:
        """Ask for the targets by name that are new, so that they are there when the configuration is in force."""
        if hosts := _named_hosts(settings):
            self.look_up.use(settings.resolvers)
            await self.resolution.add(hosts)
            self._addresses = self.resolution.addresses
            if self.workers is not None:
                self.workers.use_addresses(self.resolution.addresses)

    def _follow_names(self) -> None:
        """Those of the configuration in force, whichever it has become."""
        settings = self.settings
        self.resolution.keep(_named_hosts(settings) if settings else set())
        if settings:
            self.look_up.use(settings.resolvers)

    def _addresses_changed(self) -> None:
        """Targets by name are where their names are now, and it is there that they are checked."""
        if self.settings is None:
            return  # the first answers come before the first configuration is in force
        if addresses := self.resolution.addresses:
            self._addresses = addresses
            self.proxy.use_addresses(addresses)
            if self.settings.named_services and self.workers is None and self._settling is None:
                self._settling = asyncio.create_task(self._settle_when_free(), name="services of named targets")
        self._firewalls = _firewalls_of_checks(self.proxy)
        self._check()
        if addresses and self.workers is not None:
            self.workers.use_addresses(addresses)

    def _check(self) -> None:
        """Whoever is to be probed now is."""
        if self.settings is not None:
            self.checker.apply(self.proxy.check_keys() | self.settings.dns_checks | self.discovery.check_keys())

    async def _settle_when_free(self) -> None:
        async with self._changing:
            self._settling = None  # what changes from now on is another task's
            await self.settle_services()

    async def settle_services(self) -> None:
        """Services of targets by name answer where these are now. Not while a change is being prepared."""
        if self.settings is None or self.phase == "stopped":
            return
        dns = dns_at(self.settings, self._addresses)
        if dns != self._answered:
            self.overlay.begin()
            (await self._prepare_dns(dns)).commit()  # it listens where it did, so nothing stands in the way
            self._answered = dns

    def use_addresses(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        """In a worker: what the supervisor found."""
        self._addresses = addresses
        self.proxy.use_addresses(addresses)

    def _health_changed(self, keys: frozenset[CheckKey]) -> None:
        self.dns.health_changed(keys)
        if self._is_worker:
            return  # the supervisor has said it
        self.discovery.wake()
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


def _named_hosts(settings: Settings) -> set[str]:
    return {named.host for group in settings.proxy.target_groups for named in group.named_targets}


def _firewalls_of_checks(proxy: Proxy) -> dict[CheckKey, set[Firewall]]:
    """Which firewalls stand before each check. A check that an unguarded group makes too is left out."""
    guarded: defaultdict[CheckKey, set[Firewall]] = defaultdict(set)
    unguarded: set[CheckKey] = set()
    for group in proxy.groups.values():
        keys = {
            target.check_key
            for target in group.targets
            if target.check_key is not None and not target.draining and not target.spec.is_unix
        }
        if group.check_firewall is None:
            unguarded |= keys
            continue
        for key in keys:
            guarded[key].add(group.check_firewall)
    return {key: firewalls for key, firewalls in guarded.items() if key not in unguarded}
