"""RDATA by dnslib, where it is safe and its speed does not matter; by hand where records are made while queries wait.

dnslib never sees what a stranger sent, and gets names as lists of labels in bytes, because text would go through IDNA.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from struct import Struct
from typing import Protocol, cast

import dnslib  # pyright: ignore[reportMissingTypeStubs] - it has none

from .wire import Type, encode_name

_SRV = Struct("!HHH")


class _Rdata(Protocol):
    def pack(self, buffer: dnslib.DNSBuffer, /) -> None: ...


def _pack(rdata: _Rdata) -> bytes:
    """Into a buffer of its own, so that no name can be compressed against another record's."""
    buffer = dnslib.DNSBuffer()
    rdata.pack(buffer)
    return bytes(cast("bytearray", buffer.data))


def _label(wire: bytes) -> dnslib.DNSLabel:
    labels: list[bytes] = []
    at = 0
    while wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]])
        at += wire[at] + 1
    return dnslib.DNSLabel(labels)


def address(ip: str) -> tuple[Type, bytes]:
    """The address record's type and RDATA. ValueError in words if `ip` is no address."""
    if ip_address(ip).version == 4:
        return Type.A, _pack(dnslib.A(ip))
    return Type.AAAA, _pack(dnslib.AAAA(tuple(ip_address(ip).packed)))


def reverse_name(ip: str) -> bytes:
    """The wire form of the name under in-addr.arpa or ip6.arpa that a PTR question for `ip` asks."""
    return encode_name(ip_address(ip).reverse_pointer)


STRING_LIMIT = 255  # octets of one string of a TXT record, RFC 1035 section 3.3.14


def txt(strings: Sequence[bytes]) -> bytes:
    """One record of several strings. What is longer than a string can be goes on in the next, as everyone reads it."""
    parts = [each[at : at + STRING_LIMIT] for each in strings for at in range(0, max(len(each), 1), STRING_LIMIT)]
    return _pack(dnslib.TXT(parts))


def cname(target: bytes) -> bytes:
    return _pack(dnslib.CNAME(_label(target)))


def svcb(priority: int, target: bytes, alpn: Iterable[str], port: int) -> bytes:
    """The same for SVCB and HTTPS (RFC 9460), by hand. Keys stand in ascending order; a port that is 0 is not said."""
    parameters: list[tuple[int, bytes]] = []
    if protocols := [each.encode() for each in alpn]:
        parameters.append((1, b"".join(bytes((len(each),)) + each for each in protocols)))
    if port:
        parameters.append((3, port.to_bytes(2)))
    written = b"".join(key.to_bytes(2) + len(value).to_bytes(2) + value for key, value in parameters)
    return priority.to_bytes(2) + target + written


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    """By hand, for those of a service are made anew whenever its health changes, and dnslib takes 20 µs for one."""
    return _SRV.pack(priority, weight, port) + target


def ptr(target: bytes) -> bytes:
    return _pack(dnslib.PTR(_label(target)))


def ns(target: bytes) -> bytes:
    return _pack(dnslib.NS(_label(target)))
