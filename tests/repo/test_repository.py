"""The repository as data: what it promises in prose, in its Makefile and in its locks is so."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support import need_tool

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
README = (ROOT / "README.md").read_text()
LOCKS = sorted(ROOT.glob("requirements*.lock"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))

LONGEST_FILE = 500
# A file past the limit is asking which table or event wants a room of its own; these have answered.
LONGER: dict[str, str] = {
    "control/config/models.py": "the whole document in its own order, as one reads the YAML",
}


def files() -> list[Path]:
    """What git has or would take; in a copy without git, all but what tools leave behind."""
    if not (ROOT / ".git").exists():
        left = re.compile(r"(^|/)(\.[^/]+|__pycache__|build|dist|[^/]+\.egg-info)(/|$)")
        return [path for path in ROOT.rglob("*") if path.is_file() and not left.search(str(path.relative_to(ROOT)))]
    git = need_tool("git", package="git")
    # "safe.directory": the checkout of a build machine may belong to somebody else.
    command = [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def targets() -> set[str]:
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    return set(phony.split())


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n") for path in files() if path.suffix == ".py"
    }
    too_long = {name for name, length in lengths.items() if length > LONGEST_FILE}
    assert too_long == set(LONGER), {name: lengths.get(name) for name in too_long ^ set(LONGER)}


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    home = re.compile(rb"(?<![\w./-])/(?:work|root|home|Users)/[\w.]")
    found = [
        f"{path.relative_to(ROOT)}: {match[0].decode()}"
        for path in files()
        if (match := home.search(path.read_bytes()))
    ]  # fmt: skip
    assert not found


def test_make_help_tells_every_target() -> None:
    told = set(re.findall(r"@echo 'make (\w+)", MAKEFILE))
    assert told == targets() - {"help"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_the_documents_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    code = "\n".join([*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)])
    made = set(re.findall(r"^\s*make (\w+)", code, re.MULTILINE))
    assert made
    assert made <= targets()
    commands = set(re.findall(r"^\s*penstock ([a-z]\w*)", code, re.MULTILINE))
    shown = subprocess.run(
        [sys.executable, "-m", "penstock.control", "--help"], cwd="/", capture_output=True, text=True, check=True
    )
    assert commands <= set(re.findall(r"\w+", shown.stdout)), shown.stdout


def test_links_in_the_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {link}"
        for document in documents
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
        if "://" not in link and not (document.parent / link).exists()
    ]
    assert not broken


def test_configurations_in_the_readme_are_without_mistakes(tmp_path: Path) -> None:
    snippets = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert snippets
    for number, snippet in enumerate(snippets):
        file = tmp_path / f"readme-{number}.yaml"
        file.write_text(snippet)
        checked = subprocess.run(
            [sys.executable, "-m", "penstock.control", "check", file.name],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == PROJECT["project"]["version"]


def test_decisions_are_numbered_dated_and_one_page() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]
    for path in DECISIONS:
        text = path.read_text()
        assert re.search(r"^Date: \d{4}-\d\d-\d\d$", text, re.MULTILINE), path.name
        assert text.count("\n") <= 80, f"{path.name} is longer than a page"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_pins_and_hashes_everything_and_names_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"https?://|file://|--(?:index-url|extra-index-url|find-links|trusted-host)", text)
    blocks = re.split(r"\n(?=[a-z])", text[re.search(r"^[a-z]", text, re.MULTILINE).start() :])  # type: ignore[union-attr]
    for block in blocks:
        assert re.match(r"[a-z0-9.-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_the_locks_agree_and_hold_what_the_project_asks_for() -> None:
    pins = {lock.name: dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE)) for lock in LOCKS}
    base = pins["requirements.lock"]
    extras = PROJECT["project"]["optional-dependencies"]
    asked = PROJECT["project"]["dependencies"]
    wanted = {
        "requirements.lock": [*asked, *PROJECT["build-system"]["requires"]],
        "requirements-dev.lock": [*asked, *extras["dev"]],
        "requirements-load.lock": [*asked, *extras["load"]],
    }
    assert set(pins) == set(wanted)
    for name, requirements in wanted.items():
        assert base.items() <= pins[name].items(), f"{name} pins something else than requirements.lock"
        assert {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements} <= set(pins[name])
