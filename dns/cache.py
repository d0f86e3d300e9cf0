"""What resolvers said, kept as long as they allow. Pure: it is told the time and asks nobody.

An entry is the answer and authority sections as they came, and where their TTLs stand; what goes out is a copy with
every TTL lowered by the entry's age. How long an answer may be kept is RFC 2181 section 8's and RFC 2308 section 5's to
say, within the floor and ceilings of the specification; past its end it may still serve when no resolver does (RFC
8767). The additional section is left away: it is the least trustworthy part (RFC 2181 section 5.4.1), nobody's answer.
"""

from __future__ import annotations

from .extended_errors import STALE, STALE_NXDOMAIN, ExtendedError
from .forwarding_specs import BY_DEFAULT, CacheSpec
from .wire import HEADER_SIZE, RA, Question, Rcode, Response, Type, head, opt_for, soa_minimum

ENTRY_OVERHEAD = 500  # octets that an entry costs besides its bytes, about
STALE_TTL = 30  # seconds, on answers that are past their end: RFC 8767 section 4
RETRY_AFTER = 30.0  # seconds that an answer past its end serves without asking again, once that failed: section 5
FAILURE_TTL = 1.0  # seconds that a failure is remembered: enough for a burst, short for whoever waits (RFC 9520: 1-300)
FAILURE_LIMIT = 4096  # failures remembered; a flood of names that fail shall not grow
PREFETCH_HITS = 2  # times it was asked for, before it is worth keeping fresh
PREFETCH_LEAST = 10  # seconds; what lives shorter would be fetched all the time. BIND's prefetch asks for 9
PREFETCH_PART = 0.1  # of its lifetime: who asks within that has it fetched anew. Unbound's and BIND's


class Entry:
    """A resolver's answer without its header and question. `ttls` are (offset in body, seconds)."""

    __slots__ = (
        "answers",
        "authorities",
        "body",
        "hits",
        "lifetime",
        "prefetch_at",
        "rcode",
        "retry_at",
        "stored",
        "ttls",
    )

    def __init__(
        self,
        rcode: int,
        answers: int,
        authorities: int,
        body: bytes,
        ttls: tuple[tuple[int, int], ...],
        lifetime: int,
        stored: float,
    ) -> None:
        self.rcode = rcode
        self.answers = answers
        self.authorities = authorities
        self.body = body
        self.ttls = ttls
        self.lifetime = lifetime  # seconds it may be kept; 0: for those who asked, and nobody later
        self.stored = stored
        self.hits = 0
        self.retry_at = 0.0  # when resolvers are asked again, after they had nothing better
        # Where prefetch begins; the end where it never does.
        part = lifetime * PREFETCH_PART if lifetime >= PREFETCH_LEAST else 0.0
        self.prefetch_at = stored + lifetime - part

    @property
    def size(self) -> int:
        return len(self.body) + 16 * len(self.ttls) + ENTRY_OVERHEAD

    def is_fresh(self, now: float) -> bool:
        return now - self.stored < self.lifetime

    def wants_prefetch(self, now: float) -> bool:
        return self.hits >= PREFETCH_HITS and self.prefetch_at <= now and self.retry_at <= now

    @property
    def stale_error(self) -> ExtendedError:
        return STALE_NXDOMAIN if self.rcode == Rcode.NXDOMAIN else STALE

    def aged(self, now: float) -> bytes:
        """The sections with the TTLs that are left."""
        age = int(now - self.stored)
        stale = age >= self.lifetime > 0
        body = bytearray(self.body)
        for offset, ttl in self.ttls:
            left = STALE_TTL if stale else max(ttl - age, 0)
            body[offset : offset + 4] = left.to_bytes(4)
        return bytes(body)

    def render(self, question: Question, limit: int, now: float, error: ExtendedError | None = None) -> bytes | None:
        """The packet for one client, its question as it spelled it; None: it needs more than `limit` octets."""
        opt = opt_for(question, error.option if error is not None else b"")
        if not self.fits(question, limit, opt):
            return None
        return b"".join((question.id.to_bytes(2), self.head(question), self.aged(now), opt))

    def fits(self, question: Question, limit: int, opt: bytes) -> bool:
        return HEADER_SIZE + len(question.section) + len(self.body) + len(opt) <= limit

    def head(self, question: Question) -> bytes:
        # AA is not ours to claim. AD says that somebody validated; we did not, and cannot know who did: it stays 0.
        return head(question, RA | self.rcode, self.answers, self.authorities)


def entry_of(
    packet: bytes, response: Response, question: Question, now: float, spec: CacheSpec = BY_DEFAULT.cache
) -> Entry:
    """`packet` has been walked by `read_response`, which says where everything stands."""
    start = HEADER_SIZE + len(question.section)
    kept = (*response.answers, *response.authorities)
    # A TTL with its top bit set is 0 (RFC 2181 section 8). The floor raises a 0 too.
    ttls = [
        (found.ttl_at - start, min(max(0 if found.ttl >> 31 else found.ttl, spec.min_ttl), spec.max_ttl))
        for found in kept
    ]
    lifetime = min((ttl for _, ttl in ttls), default=0)
    if response.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        lifetime = 0
    elif response.rcode == Rcode.NXDOMAIN or not any(
        question.qtype in (found.rtype, Type.ANY) for found in response.answers
    ):
        soa = next((found for found in response.authorities if found.rtype == Type.SOA), None)
        # Without an SOA nobody says how long there will be nothing (RFC 2308 section 5).
        minimum = soa_minimum(packet, soa) if soa else 0
        lifetime = 0 if minimum >> 31 else min(lifetime, minimum, spec.max_negative_ttl)
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

    __slots__ = ("_entries", "_failures", "size", "spec")

    def __init__(self, spec: CacheSpec = BY_DEFAULT.cache) -> None:
        self.spec = spec
        self.size = 0
        self._entries: dict[bytes, Entry] = {}  # least recently used first
        self._failures: dict[bytes, float] = {}  # until when

    def __len__(self) -> int:
        return len(self._entries)

    def use(self, spec: CacheSpec) -> None:
        """Entries keep the TTLs they have."""
        self.spec = spec
        self._shrink()

    def clear(self) -> None:
        self.size = 0
        self._entries.clear()
        self._failures.clear()

    def get(self, key: bytes, now: float) -> Entry | None:
        """What is kept, past its end too (`is_fresh` tells) while it may still serve."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        if now - entry.stored >= entry.lifetime + self.spec.stale:
            self.size -= entry.size
            return None
        self._entries[key] = entry
        entry.hits += 1
        return entry

    def peek(self, key: bytes) -> Entry | None:
        """The same for who has asked before: it counts as no use."""
        return self._entries.get(key)

    def put(self, key: bytes, entry: Entry) -> None:
        if self._failures:
            self._failures.pop(key, None)
        if not entry.lifetime or entry.size > self.spec.capacity:
            return
        old = self._entries.pop(key, None)
        self.size += entry.size - (old.size if old else 0)
        self._entries[key] = entry
        self._shrink()

    def fail(self, key: bytes, now: float) -> None:
        """No resolver had an answer. What is kept of the question stays, and serves for a while without asking."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.retry_at = now + RETRY_AFTER
            return
        if len(self._failures) >= FAILURE_LIMIT:
            self._failures.clear()
        self._failures[key] = now + FAILURE_TTL

    def failed(self, key: bytes, now: float) -> bool:
        """Whether asking has failed a moment ago."""
        if not self._failures:
            return False
        until = self._failures.get(key)
        if until is None:
            return False
        if now < until:
            return True
        del self._failures[key]
        return False

    def _shrink(self) -> None:
        while self.size > self.spec.capacity:
            oldest = next(iter(self._entries))
            self.size -= self._entries.pop(oldest).size
