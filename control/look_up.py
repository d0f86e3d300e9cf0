"""Resolves the names of targets with the DNS plane's own forwarder: several resolvers, TCP where UDP cuts short, and no
answer that does not fit the question."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from pathlib import Path
from typing import Final

from dnslib import QTYPE, DNSRecord

from ..dns.cache import Cache
from ..dns.counters import DnsCounters
from ..dns.forwarder import Forwarder
from ..dns.forwarding_specs import CacheSpec
from ..dns.wire import CLASS_IN, RD, TCP_SIZE, Question, Rcode, Type, encode_name
from ..proxy.names import Answer, Denied, Failed

RESOLV_CONF: Final = Path("/etc/resolv.conf")
LOCAL: Final = (("127.0.0.1", 53),)  # resolv.conf(5): where none is named, the one on this machine
MAX_SYSTEM_RESOLVERS: Final = 3  # resolv.conf(5)
MAX_ALIASES: Final = 16  # CNAMEs followed inside one answer; BIND's max-recursion-depth allows 7, Unbound 11

Resolvers = tuple[tuple[str, int], ...]


class DnsLookUp:
    """`await look_up("app.example.org")`: its IPv4 addresses, or where it has none its IPv6 ones."""

    def __init__(self) -> None:
        # No cache: a name is asked for when what was known of it is over.
        self._forwarder = Forwarder(Cache(CacheSpec(capacity=0, stale=0)), DnsCounters())

    def use(self, resolvers: Resolvers) -> None:
        """Ask these from now on. None: the machine's own, as they are at this moment."""
        self._forwarder.use(resolvers or system_resolvers())

    async def stop(self) -> None:
        await self._forwarder.stop()

    async def __call__(self, host: str) -> Answer:
        answer = await self._ask(host, Type.A)
        return answer if answer.addresses else await self._ask(host, Type.AAAA)

    async def _ask(self, host: str, qtype: Type) -> Answer:
        section = encode_name(host) + qtype.to_bytes(2) + CLASS_IN.to_bytes(2)
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def deliver(packet: bytes) -> None:
            if not answered.done():
                answered.set_result(packet)

        question = Question(secrets.randbits(16), RD, section, qtype, CLASS_IN)
        packet = self._forwarder.ask(question, "tcp", TCP_SIZE, deliver) or await answered
        rcode = packet[3] & 0x0F
        if rcode == Rcode.NXDOMAIN:
            raise Denied
        if rcode != Rcode.NOERROR:
            raise Failed("no resolver has an answer")  # the forwarder says SERVFAIL for all that may go wrong
        return addresses_in(packet, host, qtype)


def addresses_in(packet: bytes, host: str, qtype: int) -> Answer:
    """The addresses that belong to `host` in an answer that the forwarder has let through."""
    try:
        records = DNSRecord.parse(packet).rr
    except Exception as error:  # noqa: BLE001 - dnslib raises whatever its parsing meets; the answer is as good as none
        raise Failed(f"the answer cannot be read: {error}") from None
    aliases = {
        _text(record.rname): (_text(record.rdata), record.ttl) for record in records if record.rtype == QTYPE.CNAME
    }
    owner, ttls = host.lower(), []
    for _ in range(MAX_ALIASES):
        if owner not in aliases:
            break
        owner, ttl = aliases[owner]
        ttls.append(ttl)
    found = [record for record in records if record.rtype == qtype and _text(record.rname) == owner]
    addresses = tuple(str(ipaddress.ip_address(str(record.rdata))) for record in found)
    return Answer(addresses, min([*ttls, *(record.ttl for record in found)], default=0))


def _text(name: object) -> str:
    return str(name).rstrip(".").lower()


def system_resolvers(path: Path = RESOLV_CONF) -> Resolvers:
    """The `nameserver` lines of resolv.conf."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return LOCAL
    found: list[tuple[str, int]] = []
    for words in map(str.split, lines):
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append((str(ipaddress.ip_address(words[1])), 53))
            except ValueError:
                continue  # glibc passes over what it cannot read too
    return tuple(found[:MAX_SYSTEM_RESOLVERS]) or LOCAL
