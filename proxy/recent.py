"""The last requests that have names, kept so that somebody may ask why they went where they went.

What is kept costs a tuple: references, and nothing worked out. The working out is done when, and if, somebody asks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .decision import Asked
from .plan import Plan

if TYPE_CHECKING:
    from .exchange import Exchange
    from .records import TlsFacts
    from .targets import TargetGroup

MAX_REQUESTS = 1024  # some seconds under load, and enough to ask for the one that one has just sent
MAX_HEAD = 8192  # bytes of a head that is kept: 1024 of them are at most 16 MiB, as there is a copy of each


@dataclass(frozen=True, slots=True)
class Served:
    """What is known of a finished request. `asked` has no header fields where they were too long to keep."""

    asked: Asked
    status: int
    reason: str
    rule: str
    target_group: str
    target: str
    plan: Plan
    groups: tuple[TargetGroup, ...]


class Recent:
    __slots__ = ("_requests", "keep")

    def __init__(self, size: int = MAX_REQUESTS) -> None:
        self._requests: deque[tuple[Any, ...]] = deque(maxlen=size)
        # A finished request, in the order of `add`. The usual one comes here without the call in between.
        self.keep = self._requests.append

    def add(self, session: Exchange) -> None:
        head = session.head
        self.keep(
            (
                session.request_id,
                session.peer,
                session.local,
                session.method,
                session.uri,
                head if head is None or len(head.forward) <= MAX_HEAD else None,
                session.route or session.listener.plan,  # who was refused before the rules has no route
                session.group,
                session.target,
                session.status,
                session.reason,
                session.tls,
            )
        )

    def find(self, request_id: bytes) -> Served | None:
        """By the whole id, or by what follows `Root=` in an id as ALB writes it."""
        wanted = (request_id, b"Root=" + request_id)
        for entry in reversed(self._requests):
            if entry[0] in wanted:
                return _served(*entry[1:])
        return None


def _served(
    peer: tuple[str, int],
    local: tuple[str, int],
    method: bytes,
    uri: bytes,
    head: Any,
    route: Any,
    group: Any,
    target: Any,
    status: int,
    reason: str,
    tls: TlsFacts,
) -> Served:
    plan, route = (route, None) if isinstance(route, Plan) else (route.plan, route)
    asked = Asked(
        peer[0],
        peer[1],
        local[0],
        local[1],
        method,
        head.host if head is not None else b"",
        uri,
        head.fields() if head is not None else (),
        tls.server_name or None,
    )
    groups = () if route is None else ((route.group,) if route.group is not None else route.groups)
    return Served(
        asked,
        status,
        reason,
        route.label if route is not None else "",
        group.name if group is not None else "",
        target.key if target is not None else "",
        plan,
        groups,
    )
