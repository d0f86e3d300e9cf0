"""What resolvers said, kept as long as they allow. Pure: it is told the time and asks nobody.

An entry is the answer and authority sections as they came, and where their TTLs stand; what goes out is a copy with
every TTL lowered by the entry's age. How long an answer may be kept is RFC 2181 section 8's and RFC 2308 section 5's to
say. The additional section is left away: it is the least trustworthy part (RFC 2181 section 5.4.1) and nobody's answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from .wire import HEADER_SIZE, RA, Question, Rcode, Response, Type, head, opt_for, soa_minimum

CAPACITY = 8 << 20  # octets; some 20,000 answers. Unbound keeps 4 + 4 MiB, dnsmasq 150 names
TTL_FLOOR = 0  # an answer is never kept longer than its owner said
TTL_CEILING = 86400  # Unbound's and dnsmasq's; a mistaken TTL of years shall end
NEGATIVE_CEILING = 3600  # Unbound's; a name that was missing may be created
ENTRY_OVERHEAD = 500  # octets that an entry costs besides its bytes, about


@dataclass(frozen=True, slots=True)
class Entry:
    """A resolver's answer without its header and question. `ttls` are (offset in body, seconds)."""

    rcode: int
    answers: int
    authorities: int
    body: bytes
    ttls: tuple[tuple[int, int], ...]
    lifetime: int  # seconds it may be kept; 0: for those who asked, and nobody later
    stored: float

    @property
    def size(self) -> int:
        return len(self.body) + 16 * len(self.ttls) + ENTRY_OVERHEAD

    def render(self, question: Question, limit: int, now: float) -> bytes | None:
        """The packet for one client, its question as it spelled it; None: it needs more than `limit` octets."""
        opt = opt_for(question)
        if HEADER_SIZE + len(question.section) + len(self.body) + len(opt) > limit:
            return None
        age = int(now - self.stored)
        body = bytearray(self.body)
        for offset, ttl in self.ttls:
            body[offset : offset + 4] = max(ttl - age, 0).to_bytes(4)
        # AA is not ours to claim. AD says that somebody validated; we did not, and cannot know who did: it stays 0.
        front = head(question, RA | self.rcode, self.answers, self.authorities)
        return b"".join((question.id.to_bytes(2), front, body, opt))


def entry_of(
    packet: bytes,
    response: Response,
    question: Question,
    now: float,
    floor: int = TTL_FLOOR,
    ceiling: int = TTL_CEILING,
) -> Entry:
    """`packet` has been walked by `read_response`, which says where everything stands."""
    start = HEADER_SIZE + len(question.section)
    kept = (*response.answers, *response.authorities)
    # A TTL with its top bit set is 0 (RFC 2181 section 8).
    ttls = [(found.ttl_at - start, 0 if found.ttl >> 31 else min(max(found.ttl, floor), ceiling)) for found in kept]
    lifetime = min((ttl for _, ttl in ttls), default=0)
    if response.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        lifetime = 0
    elif response.rcode == Rcode.NXDOMAIN or not any(
        question.qtype in (found.rtype, Type.ANY) for found in response.answers
    ):
        soa = next((found for found in response.authorities if found.rtype == Type.SOA), None)
        # Without an SOA nobody says how long there will be nothing (RFC 2308 section 5).
        minimum = soa_minimum(packet, soa) if soa else 0
        lifetime = 0 if minimum >> 31 else min(lifetime, minimum, NEGATIVE_CEILING)
    return Entry(
        response.rcode,
        len(response.answers),
        len(response.authorities),
        packet[start : response.end],
        tuple(ttls),
        lifetime,
        now,
    )


class Cache:
    """Entries by question (name without case, type, class) and by what changes an answer: DO and CD."""

    __slots__ = ("_entries", "capacity", "size")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.size = 0
        self._entries: dict[bytes, Entry] = {}  # least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, now: float) -> Entry | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if now - entry.stored >= entry.lifetime:
            self.size -= entry.size
            return None
        self._entries[key] = entry
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        if not entry.lifetime or entry.size > self.capacity:
            return
        old = self._entries.pop(key, None)
        self.size += entry.size - (old.size if old else 0)
        self._entries[key] = entry
        while self.size > self.capacity:
            oldest = next(iter(self._entries))
            self.size -= self._entries.pop(oldest).size
