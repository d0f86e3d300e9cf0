"""docs/service-discovery.md: its commands run as they stand, on ports of the test's own, and print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import PenstockProcess, free_port, need_tool

PAGE = (Path(__file__).parents[2] / "docs" / "service-discovery.md").read_text(encoding="utf-8")


def examples() -> list[tuple[str, str]]:
    """Commands, and what they print."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


def test_the_page_keeps_its_word(tmp_path: Path) -> None:
    need_tool("dig", package="bind9-dnsutils")
    need_tool("curl", package="curl")
    dns, admin = str(free_port()), str(free_port())
    (source,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "penstock.yaml"
    file.write_text(source.replace("8053", dns).replace("9900", admin))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = examples()
    assert len(ran) == 9
    with PenstockProcess(file, admin=f"127.0.0.1:{admin}"):
        for command, printed in ran:
            if command.startswith("penstock"):
                command += f" --admin 127.0.0.1:{admin}"
            line = command.replace("8053", dns).replace("9900", admin)
            done = subprocess.run(
                ["/bin/sh", "-c", line], capture_output=True, text=True, check=False, timeout=30,
                env={**os.environ, "PATH": path, "no_proxy": "127.0.0.1"},
            )  # fmt: skip
            revisions = re.compile(r"\d{16}")
            assert revisions.sub("N", done.stdout) == revisions.sub("N", printed), line + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("register", "api.services", "i-1", "--ip", "nowhere"), 1, "penstock: ip: must be an IPv4 or IPv6 address"),
        (("register", "api", "i-1", "--ip", "192.0.2.1"), 1, "penstock: 'api' is no service with its namespace"),
        (("heartbeat", "api.services", "i-1"), 1, "penstock: service 'api' of namespace 'services' has no instance"),
        (("deregister", "api.services", "a/b"), 1, "has no instance 'a/b'"),
        (("register", "api.services", "i-1", "--ip", "192.0.2.1", "--attribute", "x"), 2, "'x' is no KEY=VALUE"),
    ],
)
def test_what_is_refused_is_said_and_has_its_exit_code(
    penstock: PenstockProcess, arguments: tuple[str, ...], code: int, said: str
) -> None:
    command = [sys.executable, "-m", "penstock.control", "service-discovery", *arguments, "--admin", penstock.admin]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(name="penstock", scope="module")
def _penstock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PenstockProcess]:
    admin = f"127.0.0.1:{free_port()}"
    file = tmp_path_factory.mktemp("discovery") / "penstock.yaml"
    (source,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file.write_text(source.replace("127.0.0.1:8053", f"127.0.0.1:{free_port()}").replace("127.0.0.1:9900", admin))
    with PenstockProcess(file, admin=admin) as penstock:
        yield penstock


def test_nobody_answers() -> None:
    command = [sys.executable, "-m", "penstock.control", "service-discovery", "heartbeat", "api.services", "i-1"]
    done = subprocess.run(
        [*command, "--admin", f"127.0.0.1:{free_port()}"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 4
    assert "nothing listens on" in done.stderr
