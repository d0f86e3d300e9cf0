"""Questions remembered whole, each with its reply: one table for everybody, or one per kind of client.

A reply goes when something that it depends on is over, and then it alone; so a change of one instance costs the few
questions about its service, however many others are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from itertools import islice

from .absence import Absence
from .admission import Admission
from .answers import Answers, Reply
from .rings import Dependent
from .views import View, Views
from .wire import Question

# Questions per view: twice as many as there are names, for they are asked for A and AAAA, within these. One costs some
# 600 octets. When there is no room the oldest go, a few at a time; who is alive comes back for the price of a look-up.
FEWEST, MOST = 4096, 262_144
EVICTED = 64
# Questions for names that are not there come in floods of different ones. They have a small room of their own, that is
# emptied when full: they must not drive out what exists, and all go when a name appears. Who is asked for once only, as
# all are in a flood, is not let in: to let one in and out costs as much as to answer it.
ABSENT_LIMIT = 2048
PACKET_LIMIT = 512  # octets of a question; nobody's usual query is longer
CLIENTS_REMEMBERED = 65_536  # addresses, where there are views: some 150 octets each


class Memo(dict[bytes, Reply]):
    """Replies by question."""

    __slots__ = ("absence",)

    def __init__(self, absence: Absence) -> None:
        super().__init__()
        self.absence = absence


Kind = tuple[View, bool]  # of client: what it sees, and whether it may ask for what is not ours


class ByClient(dict[str | bytes, Memo]):
    """Each client's table, found out once: the first look-up of a client fills in its view's.

    A client is its address, written out or in network order.
    """

    __slots__ = ("_admission", "_tables", "_views")

    def __init__(self, views: Views, admission: Admission | None, tables: dict[Kind, Memo]) -> None:
        super().__init__()
        self._views = views
        self._admission = admission
        self._tables = tables

    def __missing__(self, client: str | bytes) -> Memo:
        if len(self) >= CLIENTS_REMEMBERED:
            self.clear()
        address = client if isinstance(client, str) else str(ip_address(client))
        recurses = self._admission is None or self._admission.may_recurse(address)
        memo = self[client] = self._tables[self._views.of(address), recurses]
        return memo


class Memos:
    """`only` is everybody's table. It is None where not all are alike: then it is `by_client[client]`.

    Clients differ in their views; and, where `admission` is given, in whether they may ask for what is not ours.
    """

    __slots__ = ("_absent", "_asked", "_count", "_limit", "_tables", "by_client", "only")

    def __init__(self, answers: Answers, count: Callable[[Reply], None], admission: Admission | None = None) -> None:
        """`count` is told of each reply that is no longer remembered, for it has counted its own hits."""
        kinds = (True, False) if admission is not None else (True,)
        tables: dict[Kind, Memo] = {
            (view, recurses): Memo(Absence(answers.registry.names)) for view in answers.views.all for recurses in kinds
        }
        self._tables = tuple(tables.values())
        self.only = self._tables[0] if len(self._tables) == 1 else None
        self.by_client = ByClient(answers.views, admission, tables)
        self._absent = answers.absent
        self._asked: set[bytes] = set()  # for what is not there
        self._count = count
        self._limit = max(FEWEST, min(2 * len(answers.registry.names), MOST) // len(answers.views.all))

    def replies(self) -> Iterator[Reply]:
        for table in self._tables:
            yield from table.values()
            yield from table.absence.replies()

    def remember(self, key: bytes, reply: Reply, client: str) -> None:
        if self._absent in reply.depends and key not in self._asked:
            if len(self._asked) >= ABSENT_LIMIT:
                self._asked.clear()
            self._asked.add(key)
            return
        if self._absent.remembered is not None and len(self._absent.remembered) >= ABSENT_LIMIT:
            self.forget([self._absent])
        table = self.by_client[client] if self.only is None else self.only
        if len(table) >= self._limit:
            self._evict(table)
        table[key] = reply
        for dependent in reply.depends:
            if dependent.remembered is None:
                dependent.remembered = set()
            dependent.remembered.add(key)

    def learn_absence(self, packet: bytes, question: Question, reply: Reply, client: str) -> None:
        table = self.by_client[client] if self.only is None else self.only
        for forgotten in table.absence.learn(packet, question, reply):
            self._count(forgotten)

    def forget(self, over: Iterable[Dependent]) -> None:
        """All replies that depend on one of these."""
        for dependent in over:
            keys, dependent.remembered = dependent.remembered, None
            for key in keys or ():
                for table in self._tables:
                    reply = table.pop(key, None)
                    if reply is not None:
                        self._dismiss(key, reply)

    def _evict(self, table: Memo) -> None:
        for key in list(islice(table, EVICTED)):
            reply = table.pop(key)
            if any(key in other for other in self._tables):  # another view's still depends on the same
                self._count(reply)
            else:
                self._dismiss(key, reply)

    def _dismiss(self, key: bytes, reply: Reply) -> None:
        self._count(reply)
        for dependent in reply.depends:
            if dependent.remembered is not None:
                dependent.remembered.discard(key)
