"""curl, as a user runs it: a command line, and what came of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from .tools import need_tool


@dataclass(frozen=True, slots=True)
class Curled:
    code: int
    body: bytes
    said: str  # standard error: with -v the heads of both messages

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def curl(*arguments: str, input: bytes | None = None, code: int | None = 0) -> Curled:
    """Run curl without anybody's .curlrc, asserting its exit code unless `code` is None."""
    command = [need_tool("curl", package="curl"), "-q", "-sS", "--max-time", "20", *arguments]
    # Everything here is on loopback: a proxy that the environment names is for others.
    done = subprocess.run(command, input=input, capture_output=True, check=False, timeout=30, env={"PATH": ""})
    said = done.stderr.decode("latin-1")
    assert code is None or done.returncode == code, f"curl ended with {done.returncode}\n{said}"
    return Curled(done.returncode, done.stdout, said)
