"""All parts of a configuration are changed in one turn of the loop, or none is."""

from __future__ import annotations

import asyncio

import pytest

from penstock.control.change import Change, Prepared, all_or_nothing
from support import run


class Parts:
    """Parts named by letters, which write down what happens to them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def good(self, name: str) -> Prepared:
        self.events.append(f"prepare {name}")
        await asyncio.sleep(0)
        return Change(lambda: self.events.append(f"commit {name}"), lambda: self.events.append(f"abort {name}"))

    async def bad(self, error: BaseException) -> Prepared:
        raise error


def test_all_are_prepared_before_the_first_is_committed() -> None:
    parts = Parts()
    run(all_or_nothing([lambda: parts.good("a"), lambda: parts.good("b")]))
    assert parts.events == ["prepare a", "prepare b", "commit a", "commit b"]


@pytest.mark.parametrize("error", [OSError("taken"), ValueError("wrong"), asyncio.CancelledError()])
def test_one_that_fails_undoes_those_before_it_and_hides_nothing(error: BaseException) -> None:
    parts = Parts()

    async def main() -> None:
        await all_or_nothing([lambda: parts.good("a"), lambda: parts.good("b"), lambda: parts.bad(error)])

    with pytest.raises(type(error)):
        run(main())
    assert parts.events == ["prepare a", "prepare b", "abort b", "abort a"]


def test_commits_take_no_turn_of_the_loop() -> None:
    parts = Parts()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def last() -> Prepared:
            loop.call_soon(parts.events.append, "another turn")
            return Change(lambda: parts.events.append("commit c"), lambda: None)

        await all_or_nothing([lambda: parts.good("a"), last])
        await asyncio.sleep(0)

    run(main())
    assert parts.events == ["prepare a", "commit a", "commit c", "another turn"]
