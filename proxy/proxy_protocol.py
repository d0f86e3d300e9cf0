"""The PROXY protocol, versions 1 and 2: who the client is, said by a proxy before the connection's first byte.

Pure: bytes come in, and a header, a refusal, or the wish for more goes back. A receiver never guesses whether there
is a header (the specification's section 2): who may send one must send one, so that nobody else can feign an address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

ProxyProtocol = Literal["v1", "v2"]
Endpoint = tuple[str, int]

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1: Final = 107  # the longest possible line, its CRLF included (section 2.1)
# Addresses take at most 216 bytes; what else there is are TLVs. Certificates of clients are the longest that proxies
# send, some 2 KiB. The length field would allow 64 KiB, which nobody needs and everybody may ask us to hold.
MAX_V2: Final = 4096

_PREFIX_V2: Final = len(SIGNATURE) + 4
_LOCAL, _PROXY = 0x20, 0x21  # version 2 in the high half
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = range(4)
_DATAGRAM: Final = 2
_ADDRESSES: Final = {_UNSPECIFIED: 0, _IPV4: 12, _IPV6: 36, _UNIX: 216}
_CRC32C: Final = 0x03


class BadProxyHeader(Exception):
    """What came is no header that may stand here. `reason` is the word that counters and log have."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Announcement:
    """A header of `length` bytes. Without addresses the proxy speaks for itself, or for a client it cannot name."""

    length: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


def parse(data: bytes) -> Announcement | None:
    """The header that `data` begins with; None while all of `data` is part of one that is not complete yet."""
    if data.startswith(SIGNATURE):
        return _parse_v2(data)
    if data.startswith(b"PROXY "):
        return _parse_v1(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise BadProxyHeader("proxy_header_missing")


# -- version 1: a line of text ----------------------------------------------------------------------------------------


def _parse_v1(data: bytes) -> Announcement | None:
    end = data.find(b"\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise BadProxyHeader("proxy_header_too_long")
        return None
    line = data[: end - 1]
    if data[end - 1 : end] != b"\r" or b"\r" in line:
        raise BadProxyHeader("proxy_header_bad")
    fields = line.split(b" ")
    if fields[1] == b"UNKNOWN":  # what follows the word is to be ignored
        return Announcement(end + 1)
    if len(fields) != 6 or fields[1] not in (b"TCP4", b"TCP6"):
        raise BadProxyHeader("proxy_header_bad")
    family = IPv4Address if fields[1] == b"TCP4" else IPv6Address
    source, destination = _address(family, fields[2]), _address(family, fields[3])
    return Announcement(end + 1, (source, _port(fields[4])), (destination, _port(fields[5])))


def _address(family: type[IPv4Address | IPv6Address], text: bytes) -> str:
    try:
        if b"%" in text:  # a scope means something to the sender's machine alone
            raise AddressValueError
        return str(family(text.decode("ascii")))
    except (AddressValueError, UnicodeDecodeError):
        raise BadProxyHeader("proxy_header_bad") from None


def _port(text: bytes) -> int:
    if not (text.isdigit() and len(text) <= 5 and (text == b"0" or text[:1] != b"0") and int(text) <= 65535):
        raise BadProxyHeader("proxy_header_bad")
    return int(text)


# -- version 2: binary ------------------------------------------------------------------------------------------------


def _parse_v2(data: bytes) -> Announcement | None:
    if len(data) < _PREFIX_V2:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    end = _PREFIX_V2 + length
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader("proxy_header_bad")
    if end > MAX_V2:
        raise BadProxyHeader("proxy_header_too_long")
    if len(data) < end:
        return None
    if command == _LOCAL:  # everything else in it, the family too, is to be ignored (section 2.2)
        return Announcement(end)
    address_family, transport = family >> 4, family & 0x0F
    size = _ADDRESSES.get(address_family)
    if size is None or size > length or transport > _DATAGRAM:
        raise BadProxyHeader("proxy_header_bad")
    addresses = data[_PREFIX_V2 : _PREFIX_V2 + size]
    for kind, start, stop in _fields(data, _PREFIX_V2 + size, end):
        if kind == _CRC32C:
            _verify(data[:end], start, stop)
    if not transport:  # UNSPEC: a client without a name
        return Announcement(end)
    if address_family == _IPV4:
        source, destination = str(IPv4Address(addresses[:4])), str(IPv4Address(addresses[4:8]))
    elif address_family == _IPV6:
        source, destination = str(IPv6Address(addresses[:16])), str(IPv6Address(addresses[16:32]))
    else:
        return Announcement(end)
    ports = int.from_bytes(addresses[-4:-2], "big"), int.from_bytes(addresses[-2:], "big")
    return Announcement(end, (source, ports[0]), (destination, ports[1]))


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The TLVs: kind, and where the value begins and ends. They must fill the header exactly."""
    while at < end:
        start = at + 3
        stop = start + int.from_bytes(data[at + 1 : start], "big")
        if start > end or stop > end:
            raise BadProxyHeader("proxy_header_bad")
        yield data[at], start, stop
        at = stop


def _verify(header: bytes, start: int, stop: int) -> None:
    """A header that fails its own checksum must not be used (section 2.2.3)."""
    said = header[start:stop]
    if len(said) != 4 or crc32c(header[:start] + bytes(4) + header[stop:]) != int.from_bytes(said, "big"):
        raise BadProxyHeader("proxy_header_bad_checksum")


def _crc32c_table() -> tuple[int, ...]:
    table: list[int] = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # Castagnoli's polynomial, reflected
        table.append(value)
    return tuple(table)


_TABLE: Final = _crc32c_table()


def crc32c(data: bytes) -> int:
    """RFC 3720 appendix B.4. zlib has only the other polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# -- towards targets --------------------------------------------------------------------------------------------------


def build(
    version: ProxyProtocol, source: Endpoint | None, destination: Endpoint | None, *, datagram: bool = False
) -> bytes:
    """The header for a client. None for either: one without an address, such as one on a unix socket."""
    ends = None if source is None or destination is None else _same_family(source, destination)
    if version == "v1":
        if ends is None:
            return b"PROXY UNKNOWN\r\n"
        family = b"TCP4" if isinstance(ends[0], IPv4Address) else b"TCP6"
        texts = (str(end).encode() for end in ends)
        return b"PROXY %b %b %b %d %d\r\n" % (family, *texts, source[1], destination[1])  # type: ignore[index]
    if ends is None:
        return _v2(_PROXY, 0, b"")
    family_byte = (_IPV4 if isinstance(ends[0], IPv4Address) else _IPV6) << 4 | (_DATAGRAM if datagram else 1)
    ports = b"".join(end[1].to_bytes(2, "big") for end in (source, destination))  # type: ignore[index]
    return _v2(_PROXY, family_byte, ends[0].packed + ends[1].packed + ports)


def build_local(version: ProxyProtocol) -> bytes:
    """The header for a connection that is the proxy's own: a health check (as NLB's)."""
    return b"PROXY UNKNOWN\r\n" if version == "v1" else _v2(_LOCAL, 0, b"")


def _same_family(
    source: Endpoint, destination: Endpoint
) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address] | None:
    try:
        ends = ip_address(source[0]), ip_address(destination[0])
    except ValueError:
        return None
    return ends if type(ends[0]) is type(ends[1]) else None


def _v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(addresses).to_bytes(2, "big") + addresses
