"""The proxy plane as a whole: builds listeners and target groups from a specification, and swaps one for another.

A change has two phases. `prepare` does all that can fail (certificates, new listening sockets) and shows nothing of
it; `commit` is plain assignments in one turn of the loop, so no connection ever sees half of a configuration.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from . import session_tickets
from .access_log import AccessLog
from .clock import Clock
from .compiled import Compiled, transport_of
from .decision import Decision, Surroundings, decide
from .edits import check_rewrites
from .filter_pool import FilterPool, LiveFilter
from .health import CheckKey, HealthTable
from .intake import Intake
from .listener import Connection, Listener
from .plan import Plan
from .recent import Recent, Served
from .sharing import Sharing
from .specs import FilterSpec, FirewallSpec, ListenerSpec, ProxySpec, TargetGroupSpec, TargetSpec
from .targets import TargetGroup, check_key, check_keys, context_for, resolved
from .tls import ServerContext, certificates_for, guard_for, server_context
from .udp_session import UdpListener

REFRESH_PAUSE = 0.01  # seconds between two looks at the health of a group, which costs 1 us a target
CLOSING = 1.0  # seconds for aborted connections to be told so, which takes a turn or two of the loop
AnyListener = Listener | UdpListener
TICK = 1.0  # seconds between sweeps: deadlines are that coarse, and cost nothing per request


class Proxy:
    """Load balancing for as many listeners as the specification names.

    >>> proxy = Proxy(HealthTable())                                              # doctest: +SKIP
    >>> (await proxy.prepare(ProxySpec(listeners=(...), target_groups=(...)))).commit()
    >>> await proxy.stop(drain=30.0)
    """

    def __init__(
        self,
        health: HealthTable,
        *,
        access_log: AccessLog | None = None,
        seed: int | None = None,
        sharing: Sharing = "alone",
        filters: Mapping[str, type[Any]] = MappingProxyType({}),
    ) -> None:
        self.listeners: dict[str, AnyListener] = {}
        self.groups: dict[str, TargetGroup] = {}
        self.clock = Clock()
        self.spec = ProxySpec()
        self.recent = Recent()
        self.intake = Intake(lambda: (listener.counters for listener in self._all_listeners()))
        self._own_key = secrets.token_bytes(32)  # for stickiness, where the specification brings no key
        self._addresses: Mapping[str, tuple[str, ...]] = {}  # of targets that are named
        self._health = health
        self._access_log = access_log
        self._rng = random.Random(seed)
        self._sharing: Sharing = sharing
        self.handed: Mapping[str, socket.socket] = {}  # to take instead of binding anew, by listener
        self.being_added: Mapping[str, AnyListener] = {}  # by the change that is prepared
        self._filters = FilterPool(filters)
        self._ticket_key: bytes | None = None  # None: each context has one of its own, made by OpenSSL
        self._compiled = Compiled()
        self._groups_by_check: defaultdict[CheckKey, list[TargetGroup]] = defaultdict(list)
        self._stale: set[TargetGroup] = set()
        self._refreshed = 0.0
        self._refreshing: asyncio.TimerHandle | None = None
        self._closing: list[AnyListener] = []  # no longer in the configuration, but not empty yet
        self._retired: list[TargetGroup] = []
        self._ticker: asyncio.TimerHandle | None = None
        self._stopping = False
        health.subscribe(self._health_changed)

    async def prepare(self, spec: ProxySpec) -> Prepared:
        """Build `spec` beside what runs. OSError when an address cannot be had, ValueError for a bad certificate or
        a rewrite that is none."""
        for listener in spec.listeners:
            check_rewrites(listener)
        contexts = {
            listener.key: self._context(listener)
            for listener in spec.listeners
            if listener.protocol in ("HTTPS", "TLS")
        }
        for group in spec.target_groups:
            context_for(group)
        compiled = await self._compiled.then(spec)
        # Who only holds addresses for others has no requests to filter.
        filters = await self._filters.prepare(() if self._sharing == "reserved" else spec.used_filters())
        added: dict[str, AnyListener] = {}
        try:
            for listener_spec in spec.listeners:
                running = self.listeners.get(listener_spec.key)
                if listener_spec.protocol == "UDP":
                    if running is None:
                        udp = UdpListener(listener_spec, self.clock, self._rng, self._access_log)
                        udp.intake = self.intake
                        udp.bind(self._closing_flows(listener_spec.key), self._sharing)
                        added[listener_spec.key] = udp
                    continue
                listener = Listener(listener_spec, self.clock, self._rng, self._access_log)
                # TLS and PROXY headers are accepted in another way. (What is running under a key without /udp is TCP.)
                if not isinstance(running, Listener) or running.by_hand != listener.by_hand:
                    handed = self.handed.get(listener_spec.key)
                    if handed is not None:
                        ready: socket.socket | None = handed.dup()
                    else:
                        ready = running.share() if isinstance(running, Listener) else None
                    await listener.bind(ready, self._sharing)
                    listener.recent, listener.intake = self.recent, self.intake
                    added[listener_spec.key] = listener
        except BaseException:  # a cancelled reload too must not leave sockets behind
            for listener in added.values():
                listener.close()
            self._filters.abort(filters)
            raise
        self.being_added = added
        return Prepared(self, compiled, contexts, added, filters)

    def sockets_to_hand_over(self) -> dict[str, socket.socket]:
        """Those of unix listeners, of a change that is prepared too: no other process can bind to their paths."""
        listeners = {**self.listeners, **self.being_added}
        return {
            key: listener.listening_socket
            for key, listener in listeners.items()
            if isinstance(listener, Listener) and listener.spec.is_unix and listener.listening_socket is not None
        }

    def _context(self, spec: ListenerSpec) -> ServerContext:
        """A listener whose certificates and policy stay the same keeps its context, and with it its session tickets."""
        running = self.listeners.get(spec.key)
        if (
            running is not None
            and running.context is not None
            and (running.spec.certificates, running.spec.ssl_policy, running.spec.http2)
            == (spec.certificates, spec.ssl_policy, spec.http2)
            and running.spec.client_certificates == spec.client_certificates
        ):
            return running.context
        alpn = ("h2", "http/1.1") if spec.http2 and spec.protocol == "HTTPS" else ("http/1.1",)
        context = server_context(spec.certificates, spec.ssl_policy, alpn, spec.client_certificates)
        self._share_tickets(context)
        return context

    def _share_tickets(self, context: ServerContext) -> None:
        if self._ticket_key is not None:
            session_tickets.share(context, session_tickets.key_for(self._ticket_key, context.client_certificates))

    def use_ticket_key(self, key: bytes) -> None:
        """Seal TLS session tickets with `key` from now on, which others have too. A client's SNI changes nothing of it:
        OpenSSL goes by the context that a connection began with, which is the listener's.
        """
        self._ticket_key = key
        for listener in self.listeners.values():
            if listener.context is not None:
                self._share_tickets(listener.context)

    def _closing_flows(self, key: str) -> UdpListener | None:
        """A UDP listener that was taken out a moment ago still has its address, and a new one can share it."""
        for listener in self._closing:
            if isinstance(listener, UdpListener) and listener.spec.key == key and listener.is_open:
                return listener
        return None

    def use_access_log(self, access_log: AccessLog | None) -> None:
        """Write to another log from now on; the caller closes the old one."""
        self._access_log = access_log
        for listener in self._all_listeners():
            listener.use_access_log(access_log)

    def explain(self, request_id: bytes) -> tuple[Decision, Served] | None:
        """Why a recent request went where it went; None for one that nobody remembers.

        Its listener and rules are those that it met. Firewalls, targets and their health are those of this moment.
        """
        served = self.recent.find(request_id)
        if served is None:
            return None
        spec = served.plan.spec
        firewalls = dict(self.spec.group_firewalls)
        ejected = {
            (group.name, target.key)
            for group in self.groups.values()
            for target in group.targets
            if target.conduct.ejected
        }

        def is_healthy(group: TargetGroupSpec, target: TargetSpec) -> bool:
            key = check_key(group, target)
            passes = key is None or self._health.is_healthy(key)
            return passes and (group.name, target.key) not in ejected

        around = Surroundings(
            spec,
            served.plan.table,
            self._compiled.firewall(spec.firewall),
            {**{group.name: group.spec for group in served.groups}, **{g.name: g for g in self.spec.target_groups}},
            {name: self._compiled.firewall(each) for name, each in firewalls.items()},
            is_healthy,
            lambda name: certificates_for(spec.certificates, name),
            lambda name: guard_for(spec.certificates, name),
        )
        return decide(served.asked, around), served

    def use_addresses(self, addresses: Mapping[str, tuple[str, ...]]) -> None:
        """The names of targets resolve to these from now on: new addresses join their groups, others drain."""
        self._addresses = dict(addresses)
        firewalls = dict(self.spec.group_firewalls)
        for spec in self.spec.target_groups:
            group = self.groups[spec.name]
            if spec.named_targets and resolved(spec, addresses) != group.spec:
                self._form(group, spec, firewalls.get(spec.name), self.spec.sticky_key or self._own_key)
        self._index_checks()

    def _form(
        self, group: TargetGroup, spec: TargetGroupSpec, firewall: FirewallSpec | None, sticky_key: bytes
    ) -> None:
        """The group becomes what `spec` says, at the addresses that its names have now."""
        known = self._compiled.firewall
        group.apply(
            resolved(spec, self._addresses),
            None if firewall is None else known(firewall, transport_of(spec)),
            self.clock.now,
            sticky_key,
        )
        group.check_firewall = None if firewall is None else known(firewall)  # probes of UDP targets are TCP

    def _index_checks(self) -> None:
        self._groups_by_check = defaultdict(list)
        for group in self.groups.values():
            for key in check_keys((group.spec,)):
                self._groups_by_check[key].append(group)

    def check_keys(self) -> set[CheckKey]:
        """What has to be probed for the specification in force."""
        return check_keys(resolved(group, self._addresses) for group in self.spec.target_groups)

    def commit(
        self,
        compiled: Compiled,
        contexts: Mapping[str, ServerContext],
        added: dict[str, AnyListener],
        filters: dict[FilterSpec, LiveFilter],
    ) -> None:
        now = self.clock.now
        spec, self._compiled = compiled.spec, compiled
        group_firewalls = dict(spec.group_firewalls)
        sticky_key = spec.sticky_key or self._own_key
        groups: dict[str, TargetGroup] = {}
        for group_spec in spec.target_groups:
            group = self.groups.pop(group_spec.name, None) or TargetGroup(group_spec, self._health, self._rng)
            self._form(group, group_spec, group_firewalls.get(group_spec.name), sticky_key)
            groups[group_spec.name] = group
        for group in self.groups.values():
            group.retire(now)
            self._retired.append(group)
        self.groups = groups
        self._index_checks()

        listeners: dict[str, AnyListener] = {}
        for listener_spec in spec.listeners:
            key = listener_spec.key
            listener = added.get(key) or self.listeners.pop(key)
            firewall = compiled.firewall(listener_spec.firewall, transport_of(listener_spec))
            plan = Plan(listener_spec, compiled.tables[key], groups, sticky_key, filters)
            listener.become(listener_spec, plan, firewall, contexts.get(key))
            listeners[key] = listener
        for listener in self.listeners.values():
            listener.close()
            self._closing.append(listener)
        self.listeners = listeners
        self.being_added = {}
        self.spec = spec
        self.intake.use(spec.limits)
        self._filters.commit(filters)
        if self._sharing != "reserved":
            for listener in added.values():
                listener.start()
        if self._ticker is None:
            self._tick()

    def drop_filters(self, prepared: Mapping[FilterSpec, LiveFilter]) -> None:
        self._filters.abort(prepared)

    def _tick(self) -> None:
        self.clock.tick()
        self.intake.look()
        now = self.clock.now
        for listener in [*self.listeners.values(), *self._closing]:
            listener.sweep(now)
        for group in [*self.groups.values(), *self._retired]:
            group.sweep(now)
        self._closing = [listener for listener in self._closing if listener.connections or listener.handshakes]
        self._retired = [group for group in self._retired if group.targets]
        if self._access_log is not None:
            self._access_log.flush()
        self._ticker = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _health_changed(self, changed: frozenset[CheckKey]) -> None:
        """Groups pick by the new health from the next turn of the loop on; where thousands of targets flip one after
        the other (a start), those of a hundredth of a second at once."""
        if not self._stale:
            loop = asyncio.get_running_loop()
            self._refreshing = loop.call_at(max(loop.time(), self._refreshed + REFRESH_PAUSE), self._refresh)
        for key in changed:
            self._stale.update(self._groups_by_check.get(key, ()))

    def _refresh(self) -> None:
        self._refreshed = asyncio.get_running_loop().time()
        stale, self._stale = self._stale, set()
        for group in stale:
            group.refresh(self.clock.now)

    def connections(self) -> int:
        """How many client connections there are, on listeners that close included."""
        return sum(len(listener.connections) + len(listener.handshakes) for listener in self._all_listeners())

    def _all_listeners(self) -> list[AnyListener]:
        return [*self.listeners.values(), *self._closing]

    def wind_down(self) -> None:
        """Go on accepting, but tell clients with each answer that their connection ends: they come back elsewhere."""
        for listener in self.listeners.values():
            listener.draining = True

    async def stop(self, drain: float) -> None:
        """Accept nothing more, let what is under way end for up to `drain` seconds, then cut the rest."""
        if self._stopping:
            return
        self._stopping = True
        loop = asyncio.get_running_loop()
        self._health.unsubscribe(self._health_changed)
        spread = min(self.spec.close_spread, drain)
        leaving: list[tuple[Listener, Connection]] = []
        for listener in self.listeners.values():
            if spread and isinstance(listener, Listener):
                listener.stop_accepting()
                leaving += ((listener, connection) for connection in listener.connections)
            else:
                listener.close()
        self._rng.shuffle(leaving)
        count, began = len(leaving), loop.time()
        while self.connections() and (elapsed := loop.time() - began) < drain:
            while leaving and len(leaving) > count * (1 - elapsed / spread):
                home, connection = leaving.pop()
                if connection in home.connections:
                    connection.drain()
            await asyncio.sleep(0.02)
        for listener in self._all_listeners():
            listener.abort()
        for group in [*self.groups.values(), *self._retired]:
            group.close()
        deadline = loop.time() + CLOSING
        while self.connections() and loop.time() < deadline:
            await asyncio.sleep(0)
        for timer in (self._ticker, self._refreshing):
            if timer is not None:
                timer.cancel()
        if self._access_log is not None:
            self._access_log.flush()
        await self._filters.stop()
        await asyncio.sleep(0)  # the transports' last callbacks


class Prepared:
    """A change that is ready: `commit()` makes it so, `abort()` leaves no trace of it."""

    __slots__ = ("_added", "_compiled", "_contexts", "_filters", "_proxy")

    def __init__(
        self,
        proxy: Proxy,
        compiled: Compiled,
        contexts: Mapping[str, ServerContext],
        added: dict[str, AnyListener],
        filters: dict[FilterSpec, LiveFilter],
    ) -> None:
        self._proxy = proxy
        self._compiled = compiled
        self._contexts = contexts
        self._added = added
        self._filters = filters

    def commit(self) -> None:
        self._proxy.commit(self._compiled, self._contexts, self._added, self._filters)

    def abort(self) -> None:
        self._proxy.being_added = {}
        for listener in self._added.values():
            listener.close()
        self._proxy.drop_filters(self._filters)
