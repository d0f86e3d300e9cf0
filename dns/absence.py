"""Names that are not there, of which a flood never asks for one twice.

Whatever the first label says, the answer is the same for all questions that are alike in everything else, as long as
there is no such name. So the first of them goes through the gate, and for others it takes two look-ups.
"""

from __future__ import annotations

from collections.abc import Mapping

from .answers import Reply
from .wire import HEADER_SIZE, Question, Rcode
from .zones import AnyNode, Node

# Kinds of questions: by parent, length of the first label, type, flags, OPT. Some 500 octets each; emptied when full.
KINDS_LIMIT = 1024
_FIXED_SIZE = 4  # octets of type and class
_ANSWER_COUNT = slice(4, 6)  # in a reply's head


class _Kind(Reply):
    """`head` ends before the question."""

    __slots__ = ("name_end",)
    name_end: int


class Absence:
    """One view's."""

    __slots__ = ("_kinds", "_names")

    def __init__(self, names: Mapping[bytes, AnyNode]) -> None:
        self._names = names
        self._kinds: dict[bytes, _Kind] = {}

    def answer(self, packet: bytes) -> bytes | None:
        """None: look closer. `packet` may be anything."""
        if len(packet) <= HEADER_SIZE:
            return None
        label_end = HEADER_SIZE + 1 + packet[HEADER_SIZE]
        kind = self._kinds.get(packet[2 : HEADER_SIZE + 1] + packet[label_end:])
        if kind is None or packet[HEADER_SIZE : kind.name_end].lower() in self._names:
            return None
        kind.hits += 1
        return packet[:2] + kind.head + packet[HEADER_SIZE : kind.name_end + _FIXED_SIZE] + kind.tail()

    def learn(self, packet: bytes, question: Question, reply: Reply) -> list[Reply]:
        """`reply` is what was found for `question`. Returns those that are forgotten for it.

        The parent must be a name that stays: what becomes of an instance's or an address's changes all below it.
        """
        parent = self._names.get(question.key[1 + question.key[0] :])
        absent = reply.rcode == Rcode.NXDOMAIN and not reply.truncated and not any(reply.head[_ANSWER_COUNT])
        if not absent or not isinstance(parent, Node):
            return []
        forgotten: list[Reply] = []
        if len(self._kinds) >= KINDS_LIMIT:
            forgotten = self.replies()
            self._kinds.clear()
        kind = _Kind(reply.head[: HEADER_SIZE - 2], reply.tail, reply.qtype, reply.rcode)
        kind.name_end = HEADER_SIZE + len(question.key)
        label_end = HEADER_SIZE + 1 + packet[HEADER_SIZE]
        self._kinds[packet[2 : HEADER_SIZE + 1] + packet[label_end:]] = kind
        return forgotten

    def replies(self) -> list[Reply]:
        return list(self._kinds.values())
