"""The asking itself: at once for new names, again when it is due, never twice for one, and not for those that left."""

from __future__ import annotations

import asyncio

import pytest

from penstock.proxy import names, resolution
from penstock.proxy.names import Answer, Denied, Failed
from penstock.proxy.resolution import Resolution
from support import run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIN_TTL", "RETRY"):
        monkeypatch.setattr(names, name, 0.01)
    monkeypatch.setattr(resolution, "FIRST_WAIT", 0.5)


class Script:
    """Gives these outcomes in turn for every name, then waits for ever."""

    def __init__(self, *outcomes: Answer | Exception) -> None:
        self.outcomes = outcomes
        self.asked: list[str] = []
        self.exhausted = asyncio.Event()

    async def __call__(self, host: str) -> Answer:
        turn = self.asked.count(host)
        self.asked.append(host)
        if turn >= len(self.outcomes):
            self.exhausted.set()
            await asyncio.Event().wait()
        outcome = self.outcomes[turn]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


ONE, TWO = Answer(("192.0.2.1",), 0.0), Answer(("192.0.2.1", "192.0.2.2"), 0.0)


def test_it_goes_on_through_failures_and_says_only_what_changed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        outcomes = (ONE, OSError(111, "refused"), Failed("SERVFAIL"), ZeroDivisionError(), ONE, Denied(), TWO)
        script, seen = Script(*outcomes), []
        following = Resolution(script, lambda: seen.append(following.addresses["a"]))
        await following.add({"a"})
        assert following.addresses == {"a": ONE.addresses}
        await script.exhausted.wait()
        assert seen == [ONE.addresses, TWO.addresses]
        await following.stop()
        assert following.addresses == {}

    caplog.set_level("INFO")
    run(main())
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        f"target a cannot be resolved: {why}; going on with 192.0.2.1"
        for why in ("refused", "SERVFAIL", "ZeroDivisionError: ", "no such name (NXDOMAIN)")
    ]


def test_only_new_names_are_asked_for_and_those_that_left_no_more() -> None:
    async def main() -> None:
        script = Script(ONE)
        following = Resolution(script, lambda: None)
        await following.add({"a", "b"})
        await following.add({"b", "c"})
        following.keep({"b", "c"})
        assert following.addresses.keys() == {"b", "c"}
        await script.exhausted.wait()
        assert sorted(script.asked[:3]) == ["a", "b", "c"]
        await following.stop()

    run(main())


def test_a_resolver_that_is_silent_holds_nobody_up_for_long() -> None:
    async def main() -> None:
        following = Resolution(Script(), lambda: None)
        await following.add({"a"})
        assert following.addresses == {"a": ()}
        await following.stop()

    run(main())
