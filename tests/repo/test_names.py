"""`dns`, `proxy` and `control` at the top are penstock's rooms, and stay out of other people's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dns
import dns.message

import penstock.control
import penstock.dns
import penstock.proxy

ROOT = Path(__file__).parents[2]

PROGRAM = "import dns.version, penstock.dns; print(dns.version.version); print(penstock.dns.__file__)"


def test_import_dns_is_dnspython_in_the_tests() -> None:
    assert hasattr(dns.message, "make_query")
    assert not Path(dns.__file__).is_relative_to(ROOT / "dns")


def test_import_dns_is_dnspython_for_whoever_installed_penstock(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    version, ours = done.stdout.split("\n")[:2]
    assert version[0].isdigit()
    assert Path(ours) == ROOT / "dns" / "__init__.py"


def test_each_room_is_imported_from_its_folder() -> None:
    for module, folder in ((penstock.proxy, "proxy"), (penstock.dns, "dns"), (penstock.control, "control")):
        assert module.__file__ is not None
        assert Path(module.__file__).parent == ROOT / folder
