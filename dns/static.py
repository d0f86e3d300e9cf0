"""Records that an operator wrote down, from text to RDATA. What is wrong with them is said in words."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from . import records
from .specs import RecordSpec
from .wire import RECORD_SIZE, Type, encode_name

APEX = "@"


def owner(name: str, origin: bytes) -> bytes:
    """The wire form of a name that is relative to its namespace."""
    return origin if name == APEX else encode_name(name).lower()[:-1] + origin


def rdata(spec: RecordSpec, value: str, origin: bytes) -> tuple[Type, bytes]:
    """ValueError in words if the value is none of its type."""
    try:
        match spec.type:
            case "A":
                return Type.A, records.address(str(IPv4Address(value)))[1]
            case "AAAA":
                return Type.AAAA, records.address(str(IPv6Address(value)))[1]
            case "CNAME":
                return Type.CNAME, records.cname(target(value, origin))
            case "TXT":
                return Type.TXT, records.txt([value.encode()])
            case "SRV":
                return Type.SRV, _srv(value, origin)
    except AddressValueError:
        raise ValueError(f"record {spec.name!r}: {value!r} is no address for {spec.type}") from None
    except ValueError as error:
        raise ValueError(f"record {spec.name!r}: {error}") from None


def size(rdata: Iterable[bytes]) -> int:
    """Octets that they take in an answer, all together."""
    return sum(RECORD_SIZE + len(each) for each in rdata)


def target(value: str, origin: bytes) -> bytes:
    """A name without a dot is one of the same namespace; the final dot of a whole one may be left out."""
    if value == APEX:
        return origin
    wire = encode_name(value).lower()
    return wire if "." in value else wire[:-1] + origin


def _srv(value: str, origin: bytes) -> bytes:
    words = value.split()
    if len(words) != 4 or not all(word.isascii() and word.isdigit() and int(word) < 1 << 16 for word in words[:3]):
        raise ValueError(f"{value!r} is no SRV record such as '10 5 8080 api' (priority, weight, port, target)")
    priority, weight, port = map(int, words[:3])
    return records.srv(priority, weight, port, target(words[3], origin))
