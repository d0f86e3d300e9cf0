"""What takes part in the bench: a program that may be installed, and how it is told what to do.

The proxies are in `proxies`, the name servers in `name_servers`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from servers import find_program

ADDRESSES = ("192.0.2.10", "192.0.2.11", "192.0.2.12")
NAME = "api.services"


@dataclass(frozen=True, slots=True)
class HttpPlan:
    """Where a proxy listens and forwards to. `pem` is certificate and key in one file, as HAProxy wants them."""

    folder: Path
    http: int
    https: int
    admin: int
    origins: tuple[int, int]
    certificate: Path
    key: Path
    pem: Path
    log: bool = False  # whether to write an access log to `folder`, in the peer's usual format


@dataclass(frozen=True, slots=True)
class DnsPlan:
    folder: Path
    port: int
    admin: int
    upstream: int = 0  # where whatever is not theirs is asked on; 0: nowhere


Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class Peer(Generic[Plan]):
    """`prepare` writes what the peer reads into the plan's folder and returns the arguments to start it with."""

    name: str
    program: str
    install: str
    version_arguments: tuple[str, ...]
    prepare: Callable[[Plan], list[str]]

    def path(self) -> str | None:
        return find_program(self.program)

    def version(self) -> str:
        """The first thing with a dot that it says of itself."""
        done = subprocess.run(
            [self.path() or self.program, *self.version_arguments],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        found = re.search(r"\d+\.\d+(?:\.\d+)*", _without_dates(done.stdout + done.stderr))
        return found[0] if found else "unknown"


def _without_dates(text: str) -> str:
    """PowerDNS begins with the time of day, and Envoy with a commit."""
    return re.sub(r"[0-9a-f]{40}|\d\d:\d\d:\d\d", "", text)
