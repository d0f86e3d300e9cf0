"""Whole zones for secondaries (AXFR, RFC 5936): what each name answers at this moment, the SOA first and last.

A zone is asked for itself, name by name and type by type, so a secondary has what a client of its network would get:
healthy instances, written records, wildcards as they stand. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .wire import (
    AA,
    CLASS_IN,
    HEADER_SIZE,
    POINTER,
    QR,
    Question,
    ReceivedRecord,
    Type,
    head,
    read_response,
    record,
)

STEP = 5  # names, about a millisecond; then others have their turn
MESSAGE_SIZE = 32 << 10  # octets of records in one message; a secondary may begin to work before it has all
TYPES = (Type.NS, Type.TXT, Type.A, Type.AAAA, Type.SRV, Type.SVCB, Type.HTTPS)
_NAMES = frozenset((Type.NS, Type.CNAME, Type.PTR))  # whose RDATA is one name, which we may have compressed

Ask = Callable[[Question], bytes | None]  # our answer without its id


def messages(question: Question, origin: bytes, names: Iterable[bytes], ask: Ask) -> Iterator[bytes]:
    """The answer about the zone `origin`, which has these `names`: whole messages, one after the other.

    b"" in between is none yet: ten thousand instances take two seconds, and whoever sends them has others to answer.
    """
    (soa,) = _records(origin, Type.SOA, ask)
    held = [soa]
    size = len(soa)
    for count, name in enumerate(names, 1):
        for found in _of_name(name, ask):
            if size + len(found) > MESSAGE_SIZE:
                yield _message(question, held)
                held, size = [], 0
            held.append(found)
            size += len(found)
        if count % STEP == 0:
            yield b""
    yield _message(question, [*held, soa])


def _message(question: Question, held: list[bytes]) -> bytes:
    front = head(question, QR | AA, len(held))
    # Without an OPT: RFC 5936 has no need of one, and whoever asked with one takes an answer without.
    return b"".join((question.id.to_bytes(2), front[:8], b"\0\0", front[10:], *held))


def _of_name(name: bytes, ask: Ask) -> Iterator[bytes]:
    alias = list(_records(name, Type.CNAME, ask))
    if alias:
        yield from alias  # and nothing beside it (RFC 1034 section 3.6.2)
        return
    for rtype in TYPES:
        yield from _records(name, rtype, ask)


def _records(name: bytes, rtype: int, ask: Ask) -> Iterator[bytes]:
    section = name + rtype.to_bytes(2) + CLASS_IN.to_bytes(2)
    answer = ask(Question(0, 0, section, rtype, CLASS_IN))
    response = read_response(b"\0\0" + answer, 0, section) if answer is not None else None
    if answer is None or response is None:
        return
    packet = b"\0\0" + answer
    for found in response.answers:
        if found.rtype == rtype:
            yield record(name, rtype, found.ttl, _rdata(packet, found))


def _rdata(packet: bytes, found: ReceivedRecord) -> bytes:
    start = found.ttl_at + 6
    if found.rtype in _NAMES:
        return _name(packet, start)[0]
    if found.rtype == Type.SOA:
        server, at = _name(packet, start)
        mailbox, at = _name(packet, at)
        return server + mailbox + packet[at : found.end]
    return packet[start : found.end]


def _name(packet: bytes, at: int) -> tuple[bytes, int]:
    """A name of our own making, without pointers, and where it ends. Its pointers aim at the question."""
    name = b""
    while (length := packet[at]) and length < POINTER:
        name += packet[at : at + length + 1]
        at += length + 1
    if not length:
        return name + b"\0", at + 1
    target = int.from_bytes(packet[at : at + 2]) & ~(POINTER << 8)
    assert HEADER_SIZE <= target < at
    return name + _name(packet, target)[0], at + 2
