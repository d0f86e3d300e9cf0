"""What is set once for the whole interpreter, and what it leaves alone."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from penstock.control.interpreter import hush_bad_server_names


@pytest.mark.parametrize(
    ("what", "error", "printed"),
    [
        (b"\xffocalhost", UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range(128)"), False),
        (b"localhost", ValueError("something else"), True),
        (print, UnicodeDecodeError("ascii", b"\xff", 0, 1, "in somebody's finaliser"), True),
    ],
)
def test_only_the_server_name_that_is_none_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, what: object, error: Exception, printed: bool
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    hush_bad_server_names()
    unraisable = SimpleNamespace(object=what, exc_type=type(error), exc_value=error)
    sys.unraisablehook(unraisable)  # type: ignore[arg-type]
    assert told == ([unraisable] if printed else [])
