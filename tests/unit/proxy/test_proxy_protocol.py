"""PROXY protocol headers: byte by byte, every way to be wrong, and what we build read back."""

from __future__ import annotations

import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.proxy.proxy_protocol import (
    MAX_V1,
    MAX_V2,
    SIGNATURE,
    Announcement,
    BadProxyHeader,
    build,
    build_local,
    crc32c,
    parse,
)

CLIENT, SERVER = ("192.0.2.7", 51000), ("198.51.100.1", 443)
CLIENT6, SERVER6 = ("2001:db8::7", 51000), ("2001:db8::1", 443)
V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + b"\xc7\x38\x01\xbb"
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + V4[-4:]


def v2(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + payload


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def with_checksum(payload: bytes, spoil: int = 0) -> bytes:
    """A header whose last TLV is its own checksum, as the specification's section 2.2.3 says to make it."""
    blank = v2(0x21, 0x11, payload + tlv(0x03, bytes(4)))
    return blank[:-4] + (crc32c(blank) ^ spoil).to_bytes(4, "big")


GOOD = [
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n", CLIENT, SERVER, id="v1 IPv4"),
    pytest.param(b"PROXY TCP6 2001:db8::7 2001:db8::1 51000 443\r\n", CLIENT6, SERVER6, id="v1 IPv6"),
    pytest.param(b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 51000 443\r\n", CLIENT6, SERVER6, id="v1 IPv6, other spelling"),
    pytest.param(
        b"PROXY TCP4 192.0.2.7 198.51.100.1 0 65535\r\n", ("192.0.2.7", 0), ("198.51.100.1", 65535), id="ends"
    ),
    pytest.param(b"PROXY UNKNOWN\r\n", None, None, id="v1 unknown"),
    pytest.param(b"PROXY UNKNOWN ff:: anything at all\r\n", None, None, id="v1 unknown with more"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 16) + b"\r\n", None, None, id="v1 of 107 bytes"),
    pytest.param(v2(0x21, 0x11, V4), CLIENT, SERVER, id="v2 IPv4"),
    pytest.param(v2(0x21, 0x12, V4), CLIENT, SERVER, id="v2 IPv4 datagram"),
    pytest.param(v2(0x21, 0x21, V6), CLIENT6, SERVER6, id="v2 IPv6"),
    pytest.param(v2(0x21, 0x31, bytes(216)), None, None, id="v2 unix"),
    pytest.param(v2(0x21, 0x00, b""), None, None, id="v2 unspecified"),
    pytest.param(v2(0x20, 0x11, V4), None, None, id="v2 local, the addresses are not the client's"),
    pytest.param(v2(0x20, 0xFF, b"\1\2"), None, None, id="v2 local, nothing else in it counts"),
    pytest.param(v2(0x21, 0x11, V4 + tlv(0xEA, b"\1vpce-1") + tlv(4, b"")), CLIENT, SERVER, id="v2 with TLVs"),
    pytest.param(v2(0x21, 0x11, V4 + tlv(4, bytes(MAX_V2 - 31))), CLIENT, SERVER, id="v2 of 4096 bytes"),
    pytest.param(with_checksum(V4 + tlv(1, b"h2")), CLIENT, SERVER, id="v2 with its checksum"),
]


@pytest.mark.parametrize(("header", "source", "destination"), GOOD)
def test_good(header: bytes, source: object, destination: object) -> None:
    assert parse(header + b"GET / HTTP/1.1\r\n") == Announcement(len(header), source, destination)  # type: ignore[arg-type]
    for end in range(len(header)):
        assert parse(header[:end]) is None, "one that is not complete is neither good nor bad"


BAD = [
    pytest.param(b"GET / HTTP/1.1\r\n", "proxy_header_missing", id="no header"),
    pytest.param(b"\x16\x03\x01", "proxy_header_missing", id="TLS at once"),
    pytest.param(b"PROXYTCP4", "proxy_header_missing", id="no space"),
    pytest.param(b"proxy TCP4 ", "proxy_header_missing", id="v1 in lower case"),
    pytest.param(b"\r\n\r\n\0\r\nQUIZ\n", "proxy_header_missing", id="another signature"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 15) + b"\r\n", "proxy_header_too_long", id="v1 of 108 bytes"),
    pytest.param(b"PROXY TCP4 " + b"1" * 200, "proxy_header_too_long", id="v1 without end"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\n", "proxy_header_bad", id="bare line feed"),
    pytest.param(b"PROXY TCP4 192.0.2.7\r 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="carriage return"),
    pytest.param(b"PROXY TCP4  192.0.2.7 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="two spaces"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443 \r\n", "proxy_header_bad", id="space at the end"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 51000\r\n", "proxy_header_bad", id="a field missing"),
    pytest.param(b"PROXY \r\n", "proxy_header_bad", id="no family"),
    pytest.param(b"PROXY UDP4 192.0.2.7 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="another family"),
    pytest.param(b"PROXY TCP4 2001:db8::7 2001:db8::1 51000 443\r\n", "proxy_header_bad", id="IPv6 in TCP4"),
    pytest.param(b"PROXY TCP6 192.0.2.7 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="IPv4 in TCP6"),
    pytest.param(b"PROXY TCP6 fe80::1%eth0 2001:db8::1 51000 443\r\n", "proxy_header_bad", id="scope"),
    pytest.param(b"PROXY TCP4 192.0.2.007 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="leading zeros"),
    pytest.param(b"PROXY TCP4 192.0.2 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="three octets"),
    pytest.param(b"PROXY TCP4 192.0.2.\xb2 198.51.100.1 51000 443\r\n", "proxy_header_bad", id="not ASCII"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "proxy_header_bad", id="port too high"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 0443 443\r\n", "proxy_header_bad", id="port with a zero before"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 +443 443\r\n", "proxy_header_bad", id="port with a sign"),
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1  443\r\n", "proxy_header_bad", id="empty port"),
    pytest.param(v2(0x11, 0x11, V4), "proxy_header_bad", id="version 1 in binary"),
    pytest.param(v2(0x22, 0x11, V4), "proxy_header_bad", id="another command"),
    pytest.param(v2(0x21, 0x41, V4), "proxy_header_bad", id="another address family"),
    pytest.param(v2(0x21, 0x13, V4), "proxy_header_bad", id="another transport"),
    pytest.param(v2(0x21, 0x11, V4[:-1]), "proxy_header_bad", id="addresses cut short"),
    pytest.param(v2(0x21, 0x21, V4), "proxy_header_bad", id="IPv4 where IPv6 is said"),
    pytest.param(v2(0x21, 0x11, V4 + b"\4"), "proxy_header_bad", id="TLV without length"),
    pytest.param(v2(0x21, 0x11, V4 + b"\4\0\2x"), "proxy_header_bad", id="TLV beyond the header"),
    pytest.param(v2(0x21, 0x11, b"", MAX_V2 - 15), "proxy_header_too_long", id="v2 of 4097 bytes"),
    pytest.param(v2(0x20, 0x00, b"", 65535), "proxy_header_too_long", id="v2 of 64 KiB"),
    pytest.param(with_checksum(V4, spoil=1), "proxy_header_bad_checksum", id="checksum"),
    pytest.param(v2(0x21, 0x11, V4 + tlv(3, b"abc")), "proxy_header_bad_checksum", id="checksum of three bytes"),
]


@pytest.mark.parametrize(("header", "reason"), BAD)
def test_bad(header: bytes, reason: str) -> None:
    with pytest.raises(BadProxyHeader) as caught:
        parse(header)
    assert caught.value.reason == reason


@given(st.binary(max_size=300), st.sampled_from((b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0")))
@example(b"", b"")
def test_whatever_comes_ends_in_one_of_three_ways(noise: bytes, start: bytes) -> None:
    data = start + noise
    try:
        found = parse(data)
    except BadProxyHeader as bad:
        assert bad.reason.startswith("proxy_header_")
        for more in (b"", b"x", b"\r\n"):  # what is bad stays bad
            with pytest.raises(BadProxyHeader):
                parse(data + more)
    else:
        assert found is None or 0 < found.length <= len(data)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("source", "destination"), [(CLIENT, SERVER), (CLIENT6, SERVER6)])
def test_what_is_built_is_read_back(version: object, source: object, destination: object) -> None:
    header = build(version, source, destination)  # type: ignore[arg-type]
    assert parse(header) == Announcement(len(header), source, destination)  # type: ignore[arg-type]


def test_built_bytes() -> None:
    assert build("v1", CLIENT, SERVER) == b"PROXY TCP4 192.0.2.7 198.51.100.1 51000 443\r\n"
    assert build("v2", CLIENT, SERVER) == v2(0x21, 0x11, V4)
    assert build("v2", CLIENT6, SERVER6, datagram=True) == v2(0x21, 0x22, V6)
    assert build_local("v1") == b"PROXY UNKNOWN\r\n"
    assert build_local("v2") == v2(0x20, 0, b"")


@pytest.mark.parametrize(
    ("source", "destination"),
    [(("unix", 0), ("unix", 80)), (None, None), (CLIENT, None), (CLIENT, SERVER6)],
    ids=["unix", "nothing", "no destination", "two families"],
)
def test_a_client_without_an_address_of_the_family_is_unknown(source: object, destination: object) -> None:
    assert build("v1", source, destination) == b"PROXY UNKNOWN\r\n"  # type: ignore[arg-type]
    assert build("v2", source, destination) == v2(0x21, 0, b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"123456789", 0xE3069283),  # the catalogue's check value
        (bytes(32), 0x8A9136AA),  # RFC 3720 B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc
