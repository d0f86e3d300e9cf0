"""Every kind of mistake, as the exact words that a person reads: errors/NAME.yaml must give errors/NAME.err.txt.

After a deliberate change of words, `UPDATE_GOLDEN=1 pytest tests/unit/config` writes the files anew; read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.control.config import ConfigurationError, load

ERRORS = Path(__file__).parent / "errors"
NOW = 1795132800.0  # 2026-11-20


@pytest.mark.parametrize("file", sorted(ERRORS.glob("*.yaml")), ids=lambda file: file.stem)
def test_mistakes_read_as_written_down(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ERRORS)
    with pytest.raises(ConfigurationError) as caught:
        load(file.name, now=NOW, materialize=True)
    said = f"{caught.value}\n".replace(str(ERRORS), "DIRECTORY")
    golden = file.with_suffix(".err.txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said)
    assert said == golden.read_text()
    assert not (ERRORS / ".penstock").exists(), "a file with mistakes leaves nothing on disk"
