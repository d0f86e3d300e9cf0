"""What a target's name resolves to, and how long that is believed. Pure: told the time and the answers, it asks nobody.

The last good answer is kept while resolving fails, however long: a resolver's outage must not become ours (haproxy
#1286, envoy #2691, ngx_upstream_jdomain #82). Only when a name is denied three times in a row is it taken to be gone.
"""

from __future__ import annotations

from dataclasses import dataclass

# Seconds. A TTL of 0 would have us ask without end, one of a day keep a target that moved away. Envoy asks every 5 s
# and Caddy every minute, whatever the TTL.
MIN_TTL = 1.0
MAX_TTL = 60.0
RETRY = 5.0  # after a failure, or a denial

DENIALS = 3  # in a row; a zone that is being loaded denies everything for a moment
MAX_ADDRESSES = 64  # of one name; some ten times what public names have, and a bound to what a resolver can do to us


@dataclass(frozen=True, slots=True)
class Answer:
    """The addresses of a name, and the smallest TTL on the way to them, through CNAMEs."""

    addresses: tuple[str, ...]
    ttl: float


class Denied(Exception):
    """The name does not exist (NXDOMAIN)."""


class Failed(Exception):
    """Nobody could say: no answer in time, SERVFAIL, or an answer without addresses. The text says which."""


class Name:
    """One name's state. `due` is when to ask again, `trouble` what went wrong the last time, or empty.

    `learned` is when the last good answer came, None before the first; of `asked` times `failed` brought none.
    """

    __slots__ = ("_denials", "addresses", "asked", "due", "failed", "learned", "trouble")

    def __init__(self) -> None:
        self.addresses: tuple[str, ...] = ()
        self.due = 0.0
        self.trouble = ""
        self.asked = self.failed = 0
        self.learned: float | None = None
        self._denials = 0

    def learn(self, outcome: Answer | Denied | Failed, now: float) -> bool:
        """Take note of how asking went; whether the addresses are others now."""
        before = self.addresses
        self.asked += 1
        match outcome:
            case Answer(addresses=addresses, ttl=ttl) if addresses:
                # Sorted: resolvers turn the order with each answer, and that is no change.
                self.addresses = tuple(sorted(set(addresses))[:MAX_ADDRESSES])
                self.due = now + min(max(ttl, MIN_TTL), MAX_TTL)
                self.trouble = ""
                self.learned = now
                self._denials = 0
            case Denied():
                self._denials += 1
                self.trouble = "no such name (NXDOMAIN)"
                self.due = now + RETRY
                if self._denials >= DENIALS:
                    self.addresses = ()
            case Failed():
                self._denials = 0
                self.trouble = str(outcome)
                self.due = now + RETRY
            case _:
                self._denials = 0
                self.trouble = "the answer has no address"
                self.due = now + RETRY
        self.failed += bool(self.trouble)
        return self.addresses != before
