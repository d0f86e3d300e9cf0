"""Plain integers about the DNS plane. It adds to them and nothing else; whoever exports them reads them when asked."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

Transport = Literal["udp", "tcp"]

# Types with a number of their own. All others are "other": a stranger chooses the type, and must not choose our memory.
TYPE_NAMES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR", 43: "DS",
    46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 52: "TLSA", 64: "SVCB", 65: "HTTPS", 255: "ANY", 257: "CAA",
}  # fmt: skip
RCODE_NAMES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS"}


class DnsCounters:
    """`dropped` is by reason and never answered; `rejected` is by what the gate found wrong, and was told so."""

    __slots__ = (
        "cache_hits",
        "cache_misses",
        "dropped",
        "forward_coalesced",
        "forward_failed",
        "forward_tries",
        "forwarded",
        "internal_errors",
        "queries",
        "recursion_refused",
        "rejected",
        "responses",
        "send_failed",
        "tcp_accepted",
        "tcp_active",
        "tcp_refused",
        "trailing_bytes",
        "truncated",
    )

    def __init__(self) -> None:
        self.queries: defaultdict[tuple[Transport, str], int] = defaultdict(int)  # past the gate, by type
        self.responses: defaultdict[str, int] = defaultdict(int)  # by rcode; from the cache and resolvers too
        self.dropped: defaultdict[str, int] = defaultdict(int)
        self.rejected: defaultdict[str, int] = defaultdict(int)
        self.truncated = 0
        self.trailing_bytes = 0
        self.send_failed: defaultdict[str, int] = defaultdict(int)  # by errno's name: EINVAL is source port 0
        self.forwarded = 0  # questions that resolvers were asked
        self.forward_tries = 0  # queries sent to resolvers for them, retries and TCP included
        self.forward_failed = 0  # questions that no resolver answered
        self.forward_coalesced = 0  # clients who joined a question that was under way
        self.recursion_refused = 0  # strangers who asked for what is not ours
        self.cache_hits = 0
        self.cache_misses = 0
        self.tcp_accepted = 0
        self.tcp_active = 0
        self.tcp_refused = 0  # over a connection cap
        self.internal_errors = 0  # ours, and a bug; the log has the traceback

    def count(self, transport: Transport, qtype: int, rcode: int, times: int = 1) -> None:
        self.queries[transport, TYPE_NAMES.get(qtype, "other")] += times
        self.responses[RCODE_NAMES.get(rcode, "other")] += times
