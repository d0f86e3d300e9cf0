"""Every entry of the table in support.entries: against inputs that hypothesis makes, and against the corpus.

The corpus holds inputs that once told two implementations apart or broke a promise; each is replayed as it is, and
`refused-*` is refused. `make fuzz` looks for more with atheris.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.entries import CORPUS, ENTRIES

FILES = sorted(CORPUS.glob("*/*"))
QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_corpus(file: Path) -> None:
    assert ENTRIES[file.parent.name].check(file.read_bytes()) != file.name.startswith("refused-")


@pytest.mark.parametrize("name", ENTRIES)
def test_any_bytes(name: str) -> None:
    """Words of the entry's language in any order, with noise between them, after a beginning that is right."""
    entry = ENTRIES[name]
    right = [file.read_bytes() for file in FILES if file.parent.name == name]
    assert right, f"the corpus has nothing for {name}"
    words = st.lists(st.sampled_from(entry.words) | st.binary(max_size=4), max_size=14).map(b"".join)
    cut = st.builds(lambda raw, at, more: raw[:at] + more, st.sampled_from(right), st.integers(0, 120), words)

    @QUICK
    @given(words | cut | st.binary(max_size=64))
    def holds(raw: bytes) -> None:
        entry.check(raw)

    holds()
