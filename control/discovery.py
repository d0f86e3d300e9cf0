"""Registrations at work: what comes over the admin address is in DNS, in every worker, in the same turn of the loop.

What has registered stands beside the configuration, so a reload keeps it; which services there are, and how they
answer, is the configuration's. This is the supervisor's part: workers have an Overlay, and do as they are told.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from ..dns.discover import EVERYBODY, Query
from ..dns.instances import Instance
from ..dns.registrations import Entries, Heartbeat, Key, Registrations, Takers
from ..dns.services import Service
from ..dns.specs import DnsSpec, InstanceSpec
from ..proxy.health import CheckKey
from . import journal
from .channel import Registered
from .config.models_registration import Mistakes, NewInstance, health_word, new_instance

if TYPE_CHECKING:
    from ..dns.reservation import DnsReservation
    from ..dns.server import DnsServer
    from ..proxy.specs import HealthCheckSpec
    from .config import Settings
    from .config.settings import RegistrationSettings
    from .overlay import Overlay
    from .workers import Workers

log = logging.getLogger("penstock.registrations")

# Seconds. AWS's NAT gateways and network load balancers forget a connection that is quiet for 350.
LONGEST_WAIT: Final = 300.0

WORDS: Final = {True: "HEALTHY", False: "UNHEALTHY", None: None}
RECORD: Final = ("ip", "weight", "failover", "zone", "region", "location")


class Unknown(ValueError):
    """No such namespace, service or instance. The message is a sentence."""


class NotTaken(ValueError):
    """It is there, but its configuration says all of it. The message is a sentence."""


class TooManyWait(ValueError):
    """No more long polls are held. The message is a sentence."""


class Discovery:
    """`checks_changed` is called when others are to be probed than before."""

    def __init__(
        self,
        dns: DnsServer | DnsReservation,
        overlay: Overlay,
        workers: Workers | None,
        checks_changed: Callable[[], None],
    ) -> None:
        self._dns = dns
        self._overlay = overlay
        self._workers = workers
        self._checks_changed = checks_changed
        self._checks_due: asyncio.Handle | None = None
        self._registrations = Registrations()
        self._listed = DnsSpec()
        self._long_polls = 0
        self._journal = journal.Journal(self._records)
        self._restored = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[asyncio.Future[None], tuple[str, str, int]] = {}
        self._stopped = False

    # For those who register and ask

    def register(self, namespace: str, service: str, instance_id: str, /, **said: object) -> bool:
        """`said` are the keys of an instance, as the admin address takes them. Whether it was not there before.

        What may be wrong: Mistakes, Unknown, NotTaken, Full.
        """
        found = self._service(namespace, service)
        new = new_instance(said, instance_id)
        key = Key.of(namespace, service, new.id or instance_id)
        self._check_taker(key)
        registrations = self._registrations
        is_new = key not in registrations.all
        if is_new and key.id in found.by_id:
            raise NotTaken(f"{key.id} is listed in the configuration: there is where it changes")
        registrations.check_room(key)
        spec = self._placed(new, key)
        self._check_answered(found, spec, registrations.takers[key[:2]])
        if is_new and new.init_health_status is not None:
            registrations.say(key, new.init_health_status == "HEALTHY")
        try:
            self._tell(key, registrations.checked(key, spec, registrations.takers))
        except ValueError as error:
            if is_new:
                registrations.say(key, None)
            raise Mistakes(str(error)) from None
        heartbeat = Heartbeat(new.heartbeat_ttl, new.deregister_after) if new.heartbeat_ttl is not None else None
        registrations.register(key, spec, heartbeat, asyncio.get_running_loop().time())
        self._settled()
        return is_new

    def deregister(self, namespace: str, service: str, instance_id: str) -> int:
        """Nobody is told of it any more. Returns for how many seconds others may still go by what they were told."""
        found = self._service(namespace, service)
        key = self._key(found, namespace, service, instance_id)
        if key not in self._registrations.all:
            raise NotTaken(f"{key.id} is listed in the configuration: there is where it is removed")
        self._registrations.deregister(key)
        self._tell(key, None)
        self._settled()
        return max(place.zone.ttl for place in found.places) if not found.ttls else max(found.ttls.values())

    def heartbeat(self, namespace: str, service: str, instance_id: str) -> None:
        key = self._key(self._service(namespace, service), namespace, service, instance_id)
        registered = self._registrations.all.get(key)
        if registered is None or registered.heartbeat is None:
            raise NotTaken(f"{key.id} has registered without heartbeat_ttl: it is not listened for")
        if self._registrations.beat(key, asyncio.get_running_loop().time()):
            log.info("%s of %s.%s is heard of again", key.id, key.service, key.namespace)
            self._tell(key, self._registrations.told(key))
            self.wake()

    def set_health(self, namespace: str, service: str, instance_id: str, status: str) -> None:
        """The operator's word: HEALTHY or UNHEALTHY, whatever is found; AUTO takes it back."""
        word = health_word({"status": status})
        found = self._service(namespace, service)
        key = self._key(found, namespace, service, instance_id)
        self._check_taker(key)
        self._registrations.say(key, word)
        self._tell(key, self._registrations.told(key, self._listed_instance(key)))
        log.info("%s of %s.%s: %s, says an operator", key.id, key.service, key.namespace, status)
        self._settled()

    def discover(self, namespace: str, service: str, query: Query = EVERYBODY) -> tuple[int, list[Instance]]:
        """The service's revision, and whom a query finds."""
        found = self._service(namespace, service)
        return found.revision, self._dns.answers.discover(namespace, service, query, random.sample)

    async def changed(self, namespace: str, service: str, revision: int, wait: float) -> None:
        """Returns when the service's revision is another, or after `wait` seconds. TooManyWait if there is no room."""
        if self._stopped or self._service(namespace, service).revision != revision or not wait:
            return
        if len(self._waiting) >= self._long_polls:
            raise TooManyWait(f"{self._long_polls} others wait for a change already")
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = namespace, service, revision
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait, LONGEST_WAIT)):
                    await waiting
        finally:
            del self._waiting[waiting]

    def word(self, key: Key) -> str | None:
        """What an operator has said of somebody's health."""
        return WORDS[self._registrations.words.get(key)]

    def is_registered(self, key: Key) -> bool:
        return key in self._registrations.all

    # As a part of the running whole

    async def entries(self, settings: Settings, dns: DnsSpec) -> Entries:
        """What DNS is to know beside these settings. The overlay notes what changes meanwhile."""
        if settings.registration.keep and not self._restored:
            self._restored = True
            self._restore(settings)
        registrations, takers = self._registrations.frozen(), _takers(settings.registration)
        return await asyncio.to_thread(registrations.entries, dns, takers)  # of 50,000 it takes 0.1 s

    def commit(self, settings: Settings, dns: DnsSpec) -> None:
        """They are in force."""
        said, registrations = settings.registration, self._registrations
        registrations.per_service, registrations.in_all = said.instances_per_service, said.instances
        self._long_polls = said.long_polls
        self._journal.directory = settings.state_directory if said.keep else None
        self._listed = dns
        dropped = registrations.settle(dns, _takers(said))
        for key in dropped:
            log.warning("%s of %s.%s has registered, and has no place any more", key.id, key.service, key.namespace)
        if dropped:
            self._journal.changed()
        self._set_timer()
        self.wake()

    def check_keys(self) -> set[CheckKey]:
        """What is probed for those who have registered."""
        takers = self._registrations.takers
        if not any(takers.values()):
            return set()
        checked = ((takers[key[:2]], each.spec) for key, each in self._registrations.all.items())
        return {key for key_of, spec in checked if key_of and isinstance(key := key_of(spec), CheckKey)}

    def wake(self) -> None:
        """Whoever waits for what has changed now is answered."""
        services = self._dns.answers.registry.services
        for waiting, (namespace, service, revision) in self._waiting.items():
            found = services.get((namespace.lower(), service.lower()))
            if not waiting.done() and (self._stopped or found is None or found.revision != revision):
                waiting.set_result(None)

    async def stop(self) -> None:
        """Who waits is answered, and what is to be kept is on disk."""
        self._stopped = True
        self.wake()
        for handle in filter(None, (self._timer, self._checks_due)):
            handle.cancel()
        await self._journal.close()

    def _service(self, namespace: str, service: str) -> Service:
        try:
            return self._dns.answers.registry.known(namespace, service)
        except ValueError as error:
            raise Unknown(str(error)) from None

    def _key(self, found: Service, namespace: str, service: str, instance_id: str) -> Key:
        if instance_id.lower() not in found.by_id:
            raise Unknown(f"service {service!r} of namespace {namespace!r} has no instance {instance_id!r}")
        return Key.of(namespace, service, instance_id)

    def _check_taker(self, key: Key) -> None:
        if key[:2] not in self._registrations.takers:
            raise NotTaken(f"service {key.service} has the targets of a target group: it is there that they change")

    def _placed(self, new: NewInstance, key: Key) -> InstanceSpec:
        network = self._dns.answers.views.network_of(new.ip)
        return _spec(new, key, network.zone if network else "", network.region if network else "")

    def _check_answered(
        self, found: Service, spec: InstanceSpec, key_of: Callable[[InstanceSpec], Hashable] | None
    ) -> None:
        """Mistakes if nobody would ever be told of it, or no check could reach it."""
        family = "AAAA" if ":" in spec.ip else "A"
        others = found.ttls.keys() - {"A", "AAAA"}
        if family not in found.ttls and not (spec.port and others):
            if others and not spec.port:
                raise Mistakes(f"port: is missing: the {', '.join(sorted(others))} records of {found.spec.name} say it")
            raise Mistakes(f"ip: {found.spec.name} has no {family} records: list them in its dns_records")
        key = key_of(spec) if key_of is not None else None
        if isinstance(key, CheckKey) and not key.port:
            raise Mistakes("port: is missing: the service's health check has no port to ask at")

    def _listed_instance(self, key: Key) -> InstanceSpec | None:
        for namespace in self._listed.namespaces:
            for service in namespace.services:
                if (namespace.names[0].lower(), service.name.lower()) == key[:2]:
                    return next((each for each in service.instances if each.id.lower() == key.id), None)
        return None

    def _tell(self, key: Key, spec: InstanceSpec | None) -> None:
        self._overlay.tell(key, spec)
        if self._workers is not None:
            self._workers.tell_all(Registered(key, spec))

    def _settled(self) -> None:
        """What follows from any change but a heartbeat."""
        self._journal.changed()
        self._set_timer()
        self.wake()
        if self._checks_due is None:
            self._checks_due = asyncio.get_running_loop().call_soon(self._check_others)  # once for many

    def _check_others(self) -> None:
        self._checks_due = None
        self._checks_changed()

    def _set_timer(self) -> None:
        due = self._registrations.next_due()
        if self._timer is not None and (due is None or due < self._timer.when()):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self._listen)

    def _listen(self) -> None:
        """Some heartbeats may be late by now."""
        self._timer = None
        changed = False
        for key, is_gone in self._registrations.overdue(asyncio.get_running_loop().time()):
            changed = True
            what = (
                "deregistered, it has not been heard of for too long" if is_gone else "unhealthy, its heartbeat is late"
            )
            log.warning("%s of %s.%s is %s", key.id, key.service, key.namespace, what)
            self._tell(key, self._registrations.told(key))
        self._set_timer()
        if changed:
            self.wake()

    def _records(self) -> Iterator[journal.Record]:
        return _records(self._registrations.frozen())

    def _restore(self, settings: Settings) -> None:
        now = asyncio.get_running_loop().time()
        path = settings.state_directory / journal.FILE_NAME
        for record in journal.read(path):
            try:
                key = Key.of(*(str(record.pop(name)) for name in Key._fields))
                word = record.pop("health")
                if record:
                    spec = _spec(new_instance({k: v for k, v in record.items() if v not in (None, "")}, key.id), key)
                    self._registrations.register(key, spec, None, now)
                if word is not None:
                    self._registrations.say(key, health_word({"status": word}))
            except (Mistakes, KeyError) as error:
                log.error("%s: an instance is passed over: %s", path, error)


def _spec(new: NewInstance, key: Key, zone: str = "", region: str = "") -> InstanceSpec:
    return InstanceSpec(
        id=key.id,
        ip=new.ip,
        port=new.port or 0,
        weight=new.weight,
        attributes=tuple(new.attributes.items()),
        failover=new.failover,
        zone=new.zone or zone,
        region=new.region or region,
        location=new.location or "",
    )


def _takers(said: RegistrationSettings) -> Takers:
    return {
        (taker.namespace.lower(), taker.service.lower()): partial(_health_key, taker.check) if taker.check else None
        for taker in said.takers
    }


def _health_key(check: HealthCheckSpec, spec: InstanceSpec) -> Hashable:
    return CheckKey.of(spec.ip, spec.port, check)


def _records(registrations: Registrations) -> Iterator[journal.Record]:
    """To be kept: who sends no heartbeats, and what was said of whoever does not."""
    for key, registered in registrations.all.items():
        if registered.heartbeat is None:
            record = key._asdict() | {name: getattr(registered.spec, name) for name in RECORD}
            record["port"] = registered.spec.port or None
            record["attributes"] = dict(registered.spec.attributes)
            yield record | {"health": WORDS[registrations.words.get(key)]}
    for key, word in registrations.words.items():
        if key not in registrations.all:
            yield key._asdict() | {"health": WORDS[word]}
