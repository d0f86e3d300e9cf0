"""How many equal answers one network gets in a second. Over UDP the sender may be forged, and then each answer is one
more packet for somebody who did not ask; a limit on equal answers to one place takes that weapon away, and hardly
touches those who ask different things.

Names that are not there count as one answer, whatever the name: they come in floods of random names. Pure.
"""

from __future__ import annotations

from enum import Enum

from .transport_specs import ResponseRateSpec
from .wire import RCODE_MASK

WINDOW = 15.0  # seconds of excess that are held against a network; BIND's
ACCOUNTS = (
    100_000  # networks and answers kept count of, the least recent ones go first; BIND's max-table-size is 20,000
)


class Verdict(Enum):
    SEND = "send"
    SLIP = "slip"
    DROP = "drop"


class _Account:
    __slots__ = ("at", "balance", "slipped")

    def __init__(self, balance: float, at: float) -> None:
        self.balance = balance
        self.at = at
        self.slipped = 0


class ResponseRate:
    __slots__ = ("_accounts", "_spec")

    def __init__(self, spec: ResponseRateSpec) -> None:
        self._spec = spec
        self._accounts: dict[tuple[bytes, bytes], _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def judge(self, address: bytes, reply: bytes, name: bytes, now: float) -> Verdict:
        """`name` is the question's, in lower case; `address` the client's in network order."""
        rate = self._spec.responses_per_second
        key = (self._network(address), kind_of(reply, name))
        account = self._accounts.pop(key, None)
        if account is None:
            if len(self._accounts) >= ACCOUNTS:
                del self._accounts[next(iter(self._accounts))]
            account = _Account(rate, now)
        self._accounts[key] = account
        account.balance = min(account.balance + (now - account.at) * rate, rate)
        account.at = now
        if account.balance >= 1:
            account.balance -= 1
            account.slipped = 0
            return Verdict.SEND
        account.balance = max(account.balance - 1, -WINDOW * rate)
        account.slipped += 1
        return Verdict.SLIP if self._spec.slip and account.slipped % self._spec.slip == 0 else Verdict.DROP

    def _network(self, address: bytes) -> bytes:
        bits = self._spec.ipv4_prefix if len(address) == 4 else self._spec.ipv6_prefix
        host = 8 * len(address) - bits
        return (int.from_bytes(address) >> host << host).to_bytes(len(address))


def kind_of(reply: bytes, name: bytes) -> bytes:
    """What makes answers equal: the name of data, and nothing else of all that is none."""
    rcode = reply[3] & RCODE_MASK
    if rcode == 0 and reply[6:8] != b"\0\0":
        return name
    return bytes((rcode,))
