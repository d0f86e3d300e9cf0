"""A change in two phases, so that a configuration is applied as a whole or not at all.

`prepare` of a part does all that can fail and shows nothing of it. What it returns is then committed, which is plain
assignments in one turn of the loop, or aborted, which leaves no trace. The planes have such objects of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol


class Prepared(Protocol):
    """Exactly one of the two is called, once."""

    def commit(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Change:
    """A Prepared made of two functions."""

    commit: Callable[[], None]
    abort: Callable[[], None]


def nothing() -> None:
    pass


UNCHANGED = Change(nothing, nothing)


async def prepare_all(prepares: Iterable[Callable[[], Awaitable[Prepared]]]) -> Prepared:
    """Prepare one by one, to be committed or aborted together. If one raises, those before it are aborted."""
    prepared: list[Prepared] = []
    with ExitStack() as undo:
        for prepare in prepares:
            one = await prepare()
            undo.callback(one.abort)
            prepared.append(one)
        undo.pop_all()

    def commit() -> None:
        for one in prepared:
            one.commit()

    def abort() -> None:
        for one in reversed(prepared):
            one.abort()

    return Change(commit, abort)


async def all_or_nothing(prepares: Iterable[Callable[[], Awaitable[Prepared]]]) -> None:
    """Prepare one by one, then commit all in the same turn of the loop."""
    (await prepare_all(prepares)).commit()
