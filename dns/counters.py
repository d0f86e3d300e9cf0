"""Plain integers about the DNS plane. It adds to them and nothing else; whoever exports them reads them when asked."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

Transport = Literal["udp", "tcp", "tls", "https"]

# Types with a number of their own. All others are "other": a stranger chooses the type, and must not choose our memory.
TYPE_NAMES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR", 43: "DS",
    46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 52: "TLSA", 64: "SVCB", 65: "HTTPS", 255: "ANY", 257: "CAA",
}  # fmt: skip
RCODE_NAMES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 16: "BADVERS", 23: "BADCOOKIE",
}  # fmt: skip


class DnsCounters:
    """`dropped` is by reason and never answered; `rejected` is by what the gate found wrong, and was told so."""

    __slots__ = (
        "cache_hits",
        "cache_misses",
        "cache_prefetches",
        "cache_stale",
        "dropped",
        "forward_answers",
        "forward_coalesced",
        "forward_failed",
        "forward_failures",
        "forward_folded",
        "forward_hedged",
        "forward_ignored",
        "forward_loops",
        "forward_remembered_failures",
        "forward_seconds",
        "forward_tcp",
        "forward_tries",
        "forward_unusable",
        "forwarded",
        "internal_errors",
        "private_reverse",
        "queries",
        "query_log_lost",
        "refused",
        "rejected",
        "responses",
        "send_failed",
        "tcp_accepted",
        "tcp_active",
        "tcp_refused",
        "tls_handshakes_failed",
        "trailing_bytes",
        "truncated",
    )

    def __init__(self) -> None:
        self.queries: defaultdict[tuple[Transport, str], int] = defaultdict(int)  # past the gate, by type
        self.responses: defaultdict[str, int] = defaultdict(int)  # by rcode; from the cache and resolvers too
        self.dropped: defaultdict[str, int] = defaultdict(int)
        self.rejected: defaultdict[str, int] = defaultdict(int)
        self.refused: defaultdict[str, int] = defaultdict(int)  # by reason: acl, recursion, response_rate ...
        self.truncated = 0
        self.trailing_bytes = 0
        self.send_failed: defaultdict[str, int] = defaultdict(int)  # by errno's name: EINVAL is source port 0
        self.forwarded = 0  # questions that resolvers were asked
        self.forward_tries = 0  # queries sent to resolvers for them, retries and TCP included
        self.forward_failed = 0  # questions that no resolver answered
        self.forward_coalesced = 0  # clients who joined a question that was under way
        self.forward_hedged = 0  # queries to a second resolver while the first had not answered
        self.forward_tcp = 0  # queries over TCP, after an answer that was cut short or changed in case
        self.forward_unusable = 0  # answers that say "not me": SERVFAIL, REFUSED and their like
        self.forward_folded = 0  # answers that repeated the question in another case
        self.forward_ignored = 0  # packets from a resolver that did not answer what it was asked
        self.forward_loops = 0  # questions of ours that came back to us
        self.forward_remembered_failures = 0  # questions answered by a failure of a moment ago
        self.forward_answers: defaultdict[str, int] = defaultdict(int)  # by resolver
        self.forward_failures: defaultdict[str, int] = defaultdict(int)  # by resolver: silence, and who is not there
        self.forward_seconds: defaultdict[str, float] = defaultdict(float)  # by resolver, of all its answers
        self.private_reverse = 0  # names of private addresses that were kept home
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_stale = 0  # answers given past their end
        self.cache_prefetches = 0  # answers fetched anew before their end
        self.tcp_accepted = 0
        self.tcp_active = 0
        self.tcp_refused = 0  # over a connection cap
        self.tls_handshakes_failed = 0
        self.query_log_lost = 0  # lines for which the disk was too slow
        self.internal_errors = 0  # ours, and a bug; the log has the traceback

    def count(self, transport: Transport, qtype: int, rcode: int, times: int = 1) -> None:
        self.queries[transport, TYPE_NAMES.get(qtype, "other")] += times
        self.responses[RCODE_NAMES.get(rcode, "other")] += times
