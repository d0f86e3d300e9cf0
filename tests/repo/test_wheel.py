"""What is built is what is here: every module of the rooms, under one import name, and nothing else."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("proxy", "dns", "control", "configs")
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline, from a copy: setuptools leaves its build folder behind and picks up stale files from it."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--wheel-dir", built, source], cwd=built, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = built.glob("*.whl")
    return found


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_nothing_stands_outside_the_one_import_name(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel)} == {"penstock", f"penstock-{VERSION}.dist-info"}


def test_every_module_of_every_room_is_in_it(wheel: Path) -> None:
    ours = {
        f"penstock/{path.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for pattern in ("*.py", "py.typed", "*.yaml")
        for path in (ROOT / room).rglob(pattern)
    }
    packed = {name for name in names(wheel) if name.startswith("penstock/")}
    assert packed == ours, "a sub-package that pyproject.toml does not list?"


def test_it_names_the_command_the_licence_and_the_python(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"penstock-{VERSION}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
        entry_points = archive.read(f"{folder}/entry_points.txt").decode()
        licence = archive.read(f"{folder}/licenses/LICENSE").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Apache License" in licence
    assert metadata["Requires-Python"] == ">=3.11"
    assert "penstock = penstock.control.cli:main" in entry_points
