"""The laws of the arrows are kept by import-linter; here it is shown that they bite, by breaking them in a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("proxy", "dns", "control")

PLANES = "control imports proxy and dns"
PURE = "pure modules are given bytes"

VIOLATIONS = {
    "proxy knows dns": ("proxy/listener.py", "from ..dns import specs as names", PLANES),
    "dns knows proxy": ("dns/server.py", "from ..proxy.health import HealthTable", PLANES),
    "proxy knows control": ("proxy/server.py", "from ..control import cli", PLANES),
    "dns knows control by its full name": ("dns/udp.py", "import penstock.control.cli", PLANES),
    "rules read the clock": ("proxy/rules.py", "from time import monotonic", PURE),
    "a balancing algorithm throws dice": ("proxy/balancing/round_robin.py", "import random", PURE),
    "answers open sockets through a helper": ("dns/answers.py", "from . import udp", PURE),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter puts the folder it runs in first on the path, so a copy there wins over what is installed."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / "penstock" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_both_laws_are_kept(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_is_found(violation: str, copy: Path) -> None:
    name, line, law = VIOLATIONS[violation]
    file = copy / "penstock" / name
    assert file.exists()
    file.write_text(f"{file.read_text()}\n{line}\n")
    done = lint_imports(copy)
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(line.startswith(law) for line in broken), done.stdout


def test_pure_modules_are_the_ones_that_are_typed_strictly() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    [pure] = [contract for contract in tools["importlinter"]["contracts"] if contract["id"] == "pure"]
    modules = {name.removeprefix("penstock.").replace(".", "/") for name in pure["source_modules"]}
    assert modules == {name.removesuffix(".py") for name in tools["basedpyright"]["strict"]}
    for module in modules:
        assert (ROOT / module).is_dir() or (ROOT / f"{module}.py").is_file()
