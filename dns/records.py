"""RDATA by dnslib, where it is safe and its speed does not matter: once per record, when a configuration is compiled.

dnslib never sees what a stranger sent, and gets names as lists of labels in bytes, because text would go through IDNA.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Protocol, cast

import dnslib  # pyright: ignore[reportMissingTypeStubs] - it has none

from .wire import Type, encode_name


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


def srv(priority: int, weight: int, port: int, target: bytes) -> bytes:
    return _pack(dnslib.SRV(priority, weight, port, _label(target)))


def ptr(target: bytes) -> bytes:
    return _pack(dnslib.PTR(_label(target)))


def ns(target: bytes) -> bytes:
    return _pack(dnslib.NS(_label(target)))
