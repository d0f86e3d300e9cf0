"""A mistake is a place in the file, the path of a key, and a sentence that says what would be right.

Everything that finds fault with a configuration speaks through this module, so that a person always reads the same
shape: `FILE:LINE:COLUMN: path.to.key: what is wrong, and what would be right`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

Path = tuple[str | int, ...]

# Past this many, a list of what would be right is no longer a help but a wall.
LISTED = 8


@dataclass(frozen=True, slots=True)
class Mistake:
    file: str
    line: int  # from 1, as editors count
    column: int
    path: str  # `load_balancer.listeners[0].port`; empty for the file as a whole
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigurationError(Exception):
    """The file was read and is wrong. Holds every mistake, in the order of the file; there is at least one."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: tuple[Mistake, ...] = in_order(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


class UnreadableError(Exception):
    """The file could not be read at all. The message is one sentence."""


def in_order(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """As the file has them, each once: what an anchor holds is wrong wherever its aliases stand, and mended in one."""
    found: dict[tuple[int, int, str, str], Mistake] = {}
    for mistake in mistakes:
        key = mistake.path.rpartition(".")[2]  # two keys missing from one mapping are two mistakes at one place
        found.setdefault((mistake.line, mistake.column, key, mistake.message), mistake)
    return tuple(sorted(found.values(), key=lambda mistake: (mistake.line, mistake.column)))


def spelled(path: Path) -> str:
    """`("rules", 0, "action")` as `rules[0].action`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant. Case is no difference, `-` and `_` are none either."""

    def plain(text: str) -> str:
        return text.lower().replace("-", "_")

    by_plain = {plain(candidate): candidate for candidate in known}
    matches = get_close_matches(plain(word), by_plain, n=1, cutoff=0.6)
    return by_plain[matches[0]] if matches else None


def hint(word: str, known: Sequence[str], kind: str) -> str:
    """The second half of "no such name": what was probably meant, else what there is."""
    if meant := closest(word, known):
        return f'did you mean "{meant}"?'
    if not known:
        return f"no {kind} is defined"
    more = ", ..." if len(known) > LISTED else ""
    return f"defined here: {', '.join(known[:LISTED])}{more}"
