"""The filters that are installed: classes that packages offer under the entry-point group `penstock.http_filters`.

A mapping from names to classes, which is what the proxy wants. Nothing is imported before it is asked for by name, and
what is found is looked at before it is believed: a stranger's package may be broken in any way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from ..proxy.filter_chain import PHASES

GROUP: Final = "penstock.http_filters"


class UnusableFilterError(ValueError):
    """Why a filter that is installed cannot be used, as the end of a sentence about it."""


class InstalledFilters(Mapping[str, type[Any]]):
    """Looked up anew each time: a reload finds what was installed since. What is imported already stays as it is."""

    def __getitem__(self, name: str) -> type[Any]:
        """KeyError where nobody offers it; UnusableFilterError where it cannot be had, or is none."""
        offered = self._offered()[name]
        if len(offered) > 1:
            offers = " and ".join(sorted({f"{_package(entry)} ({entry.value})" for entry in offered}))
            raise UnusableFilterError(f"is offered by {offers}: uninstall all but one")
        [entry] = offered
        try:
            found = entry.load()
        except Exception as error:  # whatever a stranger's module raises
            raise UnusableFilterError(
                f"cannot be loaded from {entry.value} of {_package(entry)}: {type(error).__name__}: {error}"
            ) from error
        why_not = _why_no_filter(found)
        if why_not:
            raise UnusableFilterError(f"is no filter: {entry.value} of {_package(entry)} {why_not}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._offered()))

    def __len__(self) -> int:
        return len(self._offered())

    @staticmethod
    def _offered() -> dict[str, list[EntryPoint]]:
        offered: defaultdict[str, list[EntryPoint]] = defaultdict(list)
        for entry in entry_points(group=GROUP):
            if entry not in offered[entry.name]:
                offered[entry.name].append(entry)
        return dict(offered)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"


def _why_no_filter(found: object) -> str:
    from pydantic import BaseModel  # worker processes without filters do without it

    if not isinstance(found, type):
        return "is no class"
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        return "has no pydantic model named Config"
    if not any(callable(getattr(found, phase, None)) for phase in PHASES):
        return f"has none of {', '.join(PHASES)}"
    return ""
