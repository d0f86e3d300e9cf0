"""examples/whoami, as its README tells: installed, checked, run and asked; and the same under workers and a reload."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import Origin, PenstockProcess, free_port, need_tool, response, serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "whoami"
README = (EXAMPLE / "README.md").read_text()
CONFIGURATION = """\
load_balancer:
  name: example
  listeners:
    - port: {port}
      address: 127.0.0.1
      protocol: HTTP
      default_action: {{forward: web}}
      filters: [{{name: whoami, config: {{path: {path}}}}}]
  target_groups: [{{name: web, targets: [{{ip: 127.0.0.1, port: {target}}}]}}]
admin: {{listen: "127.0.0.1:{admin}"}}
workers: {workers}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where pip installs into a folder of the test's own, and needs no network for it."""
    site = tmp_path_factory.mktemp("site")
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",  # Penstock and pydantic are here already
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to spell --no-build-isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": str(site),
        "NO_PROXY": "*",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The example, installed by the README's own command, on ports of the test's own."""
    copied = tmp_path_factory.mktemp("example") / "whoami"
    shutil.copytree(EXAMPLE, copied, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    for command in commands()[0]:
        done = subprocess.run(
            command, shell=True, cwd=copied, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return copied


def commands() -> list[list[str]]:
    return [block.strip().split("\n") for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)]


def expected() -> list[str]:
    return re.findall(r"```text\n(.*?)```", README, re.DOTALL)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def in_background(command: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    assert command.endswith(" &")
    process = subprocess.Popen(
        f"exec {command[:-2]}", shell=True, cwd=folder, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_the_readme_keeps_its_word(folder: Path, environment: dict[str, str]) -> None:
    need_tool("curl", package="curl")
    ports = {"8080": str(free_port()), "9001": str(free_port())}

    def here(text: str) -> str:
        return re.sub(r"\b(8080|9001)\b", lambda found: ports[found[0]], text)

    configuration = folder / "whoami.yaml"
    configuration.write_text(here(configuration.read_text()))
    _, (origin, penstock), *asking = commands()
    assert len(asking) == len(expected()) == 2
    with in_background(here(origin), folder, environment), in_background(penstock, folder, environment):
        for [command], answer in zip(asking, expected(), strict=True):
            # Both take a moment to start, which a reader does not see.
            patient = here(command).replace("curl", "curl --retry 20 --retry-delay 1 --retry-all-errors --fail", 1)
            done = subprocess.run(
                patient, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=50
            )
            for line in here(answer).splitlines():
                assert line in done.stdout.replace("\r", "").splitlines()


@pytest.mark.parametrize("workers", [1, 2])
def test_under_workers_and_over_a_reload(
    folder: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    target = Origin(response(b"target"))
    with serving(target):
        words = {"port": free_port(), "target": target.port, "admin": free_port(), "workers": workers}
        file = tmp_path / "penstock.yaml"
        file.write_text(CONFIGURATION.format(path="/one", **words))

        def ask(path: str) -> bytes:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{words['port']}{path}", timeout=10) as answer:
                return answer.read()

        with PenstockProcess(file, admin=f"127.0.0.1:{words['admin']}") as penstock:
            for _ in range(8):  # on connections of their own, so whichever worker takes them
                assert ask("/one").startswith(b"GET /one from 127.0.0.1\n")
                assert ask("/two") == b"target"
            file.write_text(CONFIGURATION.format(path="/two", **words))
            penstock.signal(signal.SIGHUP)
            until(lambda: penstock.status()["configuration"]["reloads"]["applied"] == 1)
            for _ in range(8):
                assert ask("/two").startswith(b"GET /two from 127.0.0.1\n")
            file.write_text(CONFIGURATION.format(path="/three, pth: x", **words))
            penstock.signal(signal.SIGHUP)
            until(lambda: penstock.status()["configuration"]["reloads"]["rejected"] == 1)
            assert 'config.pth: unknown key, did you mean "path"?' in penstock.output()
            assert ask("/two").startswith(b"GET /two ")
