"""What DNS knows beside its configuration: the instances that have registered, as the supervisor decided on them.

Every process that answers has one of these. A change goes into the answers at once; one that comes while another
configuration is being prepared goes into that one too, when it is committed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ..dns.registrations import Entries, Key, with_entries
from ..dns.specs import DnsSpec, InstanceSpec

if TYPE_CHECKING:
    from ..dns.reservation import DnsReservation
    from ..dns.server import DnsServer


class Overlay:
    def __init__(self, dns: DnsServer | DnsReservation) -> None:
        self.entries: Entries = {}
        self.coming: Entries = self.entries  # of the configuration that is in force next, or is already
        self._dns = dns
        self._meanwhile: dict[Key, InstanceSpec | None] | None = None  # what changes while one is being prepared

    def begin(self) -> None:
        """Another configuration is being prepared. `commit` or `abort` follows."""
        self._meanwhile = {}
        self.coming = self.entries.copy()

    def use(self, entries: Entries) -> None:
        """It comes with these, and with what has changed since it began."""
        self.coming = entries
        for key, spec in (self._meanwhile or {}).items():
            _put(entries, key, spec)

    async def over(self, dns: DnsSpec) -> DnsSpec:
        """`dns` with what is coming."""
        return await asyncio.to_thread(with_entries, dns, self.coming.copy()) if self.coming else dns

    def commit(self) -> None:
        """DNS is what was prepared."""
        meanwhile, self._meanwhile = self._meanwhile or {}, None
        self.entries = self.coming
        for key, spec in meanwhile.items():
            with suppress(ValueError):  # its service may have gone, or it is not there
                self._change(key, spec)

    def abort(self) -> None:
        self._meanwhile = None
        self.coming = self.entries

    def tell(self, key: Key, spec: InstanceSpec | None) -> None:
        """From the next query on it is this; None: it is not there. ValueError in words if that cannot be."""
        self._change(key, spec)
        self._note(key, spec)

    def hear(self, key: Key, spec: InstanceSpec | None) -> None:
        """The same where the supervisor has done it, perhaps for a service that is only about to be here."""
        with suppress(ValueError):
            self._change(key, spec)
        self._note(key, spec)

    def _change(self, key: Key, spec: InstanceSpec | None) -> None:
        if spec is None:
            self._dns.deregister(*key)
        else:
            self._dns.register(key.namespace, key.service, spec)

    def _note(self, key: Key, spec: InstanceSpec | None) -> None:
        _put(self.entries, key, spec)
        if self._meanwhile is not None:
            self._meanwhile[key] = spec
            _put(self.coming, key, spec)


def _put(entries: Entries, key: Key, spec: InstanceSpec | None) -> None:
    if spec is None:
        entries.pop(key, None)
    else:
        entries[key] = spec
