"""Plain integers on objects that live as long as what they count.

The data path adds to them and nothing else; whoever exports them reads them when asked. No locks: one loop, one thread.
"""

from __future__ import annotations

from collections import defaultdict

# Seconds. Upper bounds of the request-duration histogram; the last bucket is +Inf.
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ListenerCounters:
    """`denied` is by the rule that denied, `failed` by the reason word that the access log has too."""

    __slots__ = (
        "accepted",
        "active",
        "bytes_in",
        "bytes_out",
        "denied",
        "duration_count",
        "duration_sum",
        "failed",
        "requests",
        "responses",
        "rule_hits",
        "tls_failed",
    )

    def __init__(self) -> None:
        self.accepted = 0
        self.active = 0
        self.requests = 0
        self.responses = [0] * 6  # by status // 100; [0] is "client left before an answer"
        self.bytes_in = 0  # received from clients
        self.bytes_out = 0  # sent to clients
        self.duration_count = [0] * (len(DURATION_BUCKETS) + 1)
        self.duration_sum = 0.0
        self.tls_failed = 0
        self.denied: defaultdict[str, int] = defaultdict(int)
        self.failed: defaultdict[str, int] = defaultdict(int)
        self.rule_hits: defaultdict[str, int] = defaultdict(int)  # by priority, or "default"


class TargetCounters:
    __slots__ = ("bytes_in", "bytes_out", "connects", "ejections", "failed", "requests", "responses", "retries")

    def __init__(self) -> None:
        self.requests = 0
        self.responses = [0] * 6
        self.connects = 0
        self.ejections = 0
        self.retries = 0
        self.bytes_in = 0  # received from the target
        self.bytes_out = 0  # sent to the target
        self.failed: defaultdict[str, int] = defaultdict(int)
