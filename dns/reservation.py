"""The DNS server's addresses, held for other processes that serve there.

It has the life of a DnsServer and answers nobody; but it knows what is answered, so that it can tell. The TCP port is
bound and never listens, which keeps it ours while those who share it come and go. A UDP socket cannot be held like
that, for the kernel would give it a share of the queries; so for UDP it is only made sure, before anybody binds, that
the port is free.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Hashable, Iterable
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address

from .answers import Answers
from .counters import DnsCounters
from .instances import is_up
from .server import Endpoint, Prepared, SecureEndpoint
from .specs import DnsSpec, HealthSource, InstanceSpec
from .top_names import TopNames
from .transport_specs import SecureProtocol
from .udp import udp_socket


class DnsReservation:
    """`counters` and `top_names` are what those who serve have counted, as far as somebody says so here."""

    def __init__(self, health: HealthSource) -> None:
        self._is_healthy = partial(is_up, health=health)
        self._serial = int(time.time())
        self.answers = Answers(DnsSpec(), self._is_healthy, self._serial)
        self.counters = DnsCounters()
        self.top_names: TopNames | None = None
        self._changed_meanwhile = set[Hashable]()  # whose health has changed since the last `prepare`
        self._held: dict[Endpoint, socket.socket] = {}
        self._secure: dict[Endpoint, SecureProtocol] = {}

    @property
    def bound(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._held if endpoint not in self._secure]

    @property
    def bound_secure(self) -> list[SecureEndpoint]:
        return [(*endpoint, protocol) for endpoint, protocol in self._secure.items()]

    def health_changed(self, keys: Iterable[Hashable]) -> None:
        self._changed_meanwhile.update(keys := tuple(keys))
        self.answers.health_changed(keys)

    def register(self, namespace: str, service: str, instance: InstanceSpec) -> None:
        """ValueError in words if it cannot be had."""
        self.answers.register(namespace, service, instance)

    def deregister(self, namespace: str, service: str, instance_id: str) -> None:
        """ValueError in words if it is not there."""
        self.answers.deregister(namespace, service, instance_id)

    def reopen_query_log(self) -> None:
        """Those who serve have theirs."""

    async def prepare(self, spec: DnsSpec) -> Prepared:
        """OSError with the address in it if one cannot be had, ValueError in words for a mistake in `spec`."""
        serial = self._serial + 1
        changed = self._changed_meanwhile = set[Hashable]()
        answers = await asyncio.to_thread(Answers, spec, self._is_healthy, serial, self.answers)
        taken: dict[Endpoint, socket.socket] = {}
        with ExitStack() as undo:
            secure: dict[Endpoint, SecureProtocol] = {
                (listener.address, listener.port): listener.protocol for listener in spec.transport.secure
            }
            wanted = dict.fromkeys([*spec.listen, *secure])
            for endpoint in wanted:
                if endpoint not in self._held:
                    taken[endpoint] = _reserved(*endpoint, udp=endpoint in spec.listen)
                    undo.callback(taken[endpoint].close)
            abort = undo.pop_all().close

        def commit() -> None:
            self._serial, self.answers = serial, answers
            answers.health_changed(changed)  # it may have read those before they changed
            before, self._secure = self._held, secure
            self._held = {endpoint: taken.get(endpoint) or before[endpoint] for endpoint in wanted}
            for endpoint, held in before.items():
                if endpoint not in self._held:
                    held.close()

        return Prepared(commit, abort)

    async def stop(self, grace: float) -> None:
        for held in self._held.values():
            held.close()
        self._held = {}


def _reserved(address: str, port: int, *, udp: bool) -> socket.socket:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    transport = "udp"
    try:
        if udp:
            udp_socket(address, port).close()
        transport = "tcp"
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind((address, port))
        # Only now: before, it would let us join a stranger's port of the same user instead of hearing of him.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        held.close()
        host = f"[{address}]" if ":" in address else address
        raise OSError(error.errno, error.strerror, f"{host}:{port}/{transport}") from None
    return held
