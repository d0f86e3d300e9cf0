"""What the checks share: the sound part of the file, the names in it, and where to put what they find."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Final

from .mistakes import Mistake, Path, hint
from .models import Configuration, LoadBalancer
from .validation import EACH, KEY, Names, Validated

# Finding "did you mean" takes some 10 µs per known name: in a file of thousands of both, that must come to an end.
MAX_COMPARISONS: Final = 100_000


class Review:
    """Collects mistakes and warnings. Paths are those of the configuration; the reader gets those of the file."""

    def __init__(self, validated: Validated) -> None:
        document = validated.document
        self._validated = validated
        self.configuration: Configuration = validated.configuration
        self.mistakes: list[Mistake] = [*document.mistakes, *validated.mistakes]
        self.warnings: list[Mistake] = []
        self._comparisons_left = MAX_COMPARISONS
        balancers: tuple[Path, ...] = (("load_balancer",), ("load_balancers", EACH))
        self.subnets = Names(document, ("network", "subnets", EACH, "name"))
        self.target_groups = Names(document, *((*path, "target_groups", EACH, "name") for path in balancers))
        self.certificates = Names(document, ("certificates", EACH, "name"))
        self.security_groups = Names(document, ("security", "security_groups", KEY))

    def mistake(self, path: Path, message: str, *, at_key: bool = False) -> None:
        if not self._validated.is_cut(path):
            self.mistakes.append(self._place(path, message, at_key))

    def warn(self, path: Path, message: str, *, at_key: bool = False) -> None:
        if not self._validated.is_cut(path):
            self.warnings.append(self._place(path, message, at_key))

    def sound(self, *paths: Path) -> bool:
        """Whether the file says (or leaves to its default) what stands here, rather than something refused."""
        return not any(self._validated.is_cut(path) for path in paths)

    def whole(self, path: Path) -> bool:
        """Whether nothing inside was refused: then what is not there was not written."""
        return not self._validated.has_cuts_below(path)

    def line(self, path: Path) -> int:
        return self._validated.document.locate(self._validated.original(path))[0]

    def reference(self, path: Path, name: str, known: Names, kind: str) -> bool:
        """A name that must be defined in this file. Says nothing where the definitions are themselves in doubt."""
        if name in known.all:
            return True
        if known.complete:
            self.mistake(path, f'no {kind} is named "{name}"{self._advice(name, known, kind)}')
        return False

    def _advice(self, name: str, known: Names, kind: str) -> str:
        self._comparisons_left -= len(known.all)
        return f", {hint(name, list(known.all), kind)}" if self._comparisons_left > 0 else ""

    def unique(self, named: Iterable[tuple[Path, Hashable]], what: str) -> None:
        """No two of these may be the same. The path ends in the key that holds the value; `what` has it as {}."""
        first: dict[Hashable, Path] = {}
        for path, value in named:
            if self.sound(path):
                if value in first:
                    self.mistake(path, f"{what.format(value)} already, in line {self.line(first[value])}")
                else:
                    first[value] = path

    def load_balancers(self) -> Iterator[tuple[Path, LoadBalancer]]:
        if self.configuration.load_balancer:
            yield ("load_balancer",), self.configuration.load_balancer
        for index, balancer in enumerate(self.configuration.load_balancers):
            yield ("load_balancers", index), balancer

    def vpc(self, path: Path, name: str | None) -> None:
        """A reference to the network: a mistake if it is another one, a warning if the file has none."""
        if name is None or not self.sound(("network", "vpc", "name")):
            return
        network = self.configuration.network
        if network is None:
            if self.sound(("network",)):
                self.warn(path, f'there is no network: section, so "{name}" is a name and nothing more')
        elif name != network.vpc.name:
            self.mistake(path, f'no VPC is named "{name}", the one here is {network.vpc.name}')

    def zone(self, path: Path, zone: str | None) -> None:
        network = self.configuration.network
        if zone is not None and network is not None and network.vpc.zones and zone not in network.vpc.zones:
            self.mistake(path, f'the VPC has no zone "{zone}", its zones are {", ".join(network.vpc.zones)}')

    def _place(self, path: Path, message: str, at_key: bool) -> Mistake:
        return self._validated.document.mistake(self._validated.original(path), message, at_key=at_key)
