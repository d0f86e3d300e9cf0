"""dig, as a user runs it: a command line, and the message that it printed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field

from .tools import need_tool


@dataclass(frozen=True, slots=True)
class Dug:
    """Each record as dig prints it, with single spaces: `api.services. 60 IN A 10.0.1.10`."""

    status: str
    flags: tuple[str, ...]
    answer: list[str] = field(default_factory=list)
    authority: list[str] = field(default_factory=list)
    additional: list[str] = field(default_factory=list)
    printed: str = ""

    @property
    def data(self) -> list[str]:
        """The answer section without names, TTLs and types."""
        return [record.split(" ", 4)[4] for record in self.answer]

    @property
    def ttls(self) -> set[int]:
        return {int(record.split(" ")[1]) for record in self.answer}


def dig(port: int, *question: str) -> Dug:
    command = [need_tool("dig", package="bind9-dnsutils"), "-r", "@127.0.0.1", "-p", str(port), "+tries=1", *question]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    printed = done.stdout
    head = re.search(r"status: (\w+).*\n;; flags: ([a-z ]*);", printed)
    assert done.returncode == 0, printed + done.stderr
    assert head is not None, printed
    for complaint in ("extra bytes", "malformed", "mismatch", "did not match"):
        assert complaint not in printed, printed
    sections: dict[str, list[str]] = {"ANSWER": [], "AUTHORITY": [], "ADDITIONAL": []}
    for name, text in re.findall(r"^;; (\w+) SECTION:\n((?:[^;\n].*\n)+)", printed, re.MULTILINE):
        sections[name] = [" ".join(line.split()) for line in text.splitlines()]
    return Dug(head[1], tuple(head[2].split()), *sections.values(), printed)
