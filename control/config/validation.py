"""From plain data to models, keeping as much as is sound.

One bad key must not hide what is wrong elsewhere. So what the models refuse is reported once, cut out, and the rest is
validated again, until it stands; the checks that look across the file then run on what is left. Where the cut key is
one without which its whole object would go, something stands in for it. The cuts shift the places in lists, so a path
of the rest is translated back before anybody reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .mistakes import Mistake, Path, closest
from .models import (
    Certificate,
    Configuration,
    Listener,
    LoadBalancer,
    Namespace,
    Rule,
    Service,
    Subnet,
    TargetGroup,
    Vpc,
)
from .scalars import describe
from .yaml_source import Data, Document

# For required keys of objects that hold more than themselves. No check looks at one: `is_cut` is true of it.
STAND_INS: Final[dict[type[BaseModel], dict[str, Data]]] = {
    Vpc: {"name": "unnamed", "cidr": "0.0.0.0/0"},
    Subnet: {"name": "unnamed", "cidr": "0.0.0.0/0"},
    LoadBalancer: {"name": "unnamed"},
    Listener: {"protocol": "HTTP"},
    Rule: {"priority": 1, "conditions": {"path": "*"}, "action": {"fixed_response": {"status": 200}}},
    TargetGroup: {"name": "unnamed"},
    Certificate: {"name": "unnamed"},
    Namespace: {"name": "unnamed"},
    Service: {"name": "unnamed"},
}


class Validated:
    """The part of a document that is sound. `mistakes` are those that the models found."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.mistakes: list[Mistake] = []
        self._cut: set[Path] = set(document.valueless)
        self._stand_ins: dict[Path, dict[str, Data]] = {}  # by the object they are in
        self._kept: dict[Path, list[int]] = {}  # of a shortened list, which items are left
        self.configuration = self._validate()

    def original(self, path: Path) -> Path:
        """The path in the file of what `path` is in the configuration."""
        found: Path = ()
        for part in path:
            if isinstance(part, int) and found in self._kept:
                part = self._kept[found][part]
            found = (*found, part)
        return found

    def is_cut(self, path: Path) -> bool:
        """Whether the file has something here that was refused; then its absence says nothing."""
        if not self._cut:
            return False
        original = self.original(path)
        return any(original[:length] in self._cut for length in range(1, len(original) + 1))

    def has_cuts_below(self, path: Path) -> bool:
        original = self.original(path)
        return any(cut[: len(original)] == original for cut in self._cut)

    def _validate(self) -> Configuration:
        data: Data = self.document.root.data
        reported = False
        while True:
            try:
                return Configuration.model_validate(data)
            except ValidationError as error:
                errors = error.errors(include_url=False)
            if not reported:  # what later rounds find are only consequences of the cuts
                self.mistakes += self._sentences(errors)
                reported = True
            before = frozenset(self._cut)
            for details in errors:
                self._cut_out(details, before)
            self._kept.clear()
            data = self._without_cuts(self.document.root.data, ())

    def _cut_out(self, details: ErrorDetails, before: frozenset[Path]) -> None:
        loc = details["loc"]
        if details["type"] == "missing":
            parent, missing = self.document.existing(self.original(loc[:-1])), str(loc[-1])
            stand_ins = STAND_INS.get(_model_at(loc[:-1]), {})
            if missing in stand_ins:
                self._cut.add((*parent, missing))
                self._stand_ins.setdefault(parent, {})[missing] = stand_ins[missing]
                return
            victim = parent
        else:
            victim = self.document.existing(self.original(loc))
        while victim in before:  # every round cuts more, so that there is a last one
            victim = victim[:-1]
        self._cut.add(victim)

    def _without_cuts(self, data: Data, path: Path) -> Data:
        if isinstance(data, dict):
            left = {key: value for key, value in data.items() if (*path, key) not in self._cut}
            sound = {key: self._without_cuts(value, (*path, key)) for key, value in left.items()}
            return sound | self._stand_ins.get(path, {})
        if isinstance(data, list):
            kept = [index for index in range(len(data)) if (*path, index) not in self._cut]
            if len(kept) < len(data):
                self._kept[path] = kept
            return [self._without_cuts(data[index], (*path, index)) for index in kept]
        return data

    def _sentences(self, errors: list[ErrorDetails]) -> Iterator[Mistake]:
        for details in errors:
            if details["type"] == "extra_forbidden" and (meant := _meant(details["loc"])):
                self._misspelt((*details["loc"][:-1], meant))
        with_cuts_inside = {cut[:length] for cut in self._cut for length in range(len(cut) + 1)}
        for details in errors:
            kind, loc = details["type"], details["loc"]
            if kind == "missing":
                if loc not in self._cut:
                    yield self.document.mistake(loc, "is missing and has no default", at_key=True)
            elif kind == "extra_forbidden":
                yield self.document.mistake(loc, f"unknown key, {_advice(loc)}", at_key=True)
            elif loc[-1:] == ("[key]",):  # pydantic's way to say that the key is at fault
                yield self.document.mistake(loc[:-1], sentence(details), at_key=True)
            elif loc not in with_cuts_inside:  # a key that is misspelt or has no value was complaint enough
                yield self.document.mistake(loc, sentence(details))

    def _misspelt(self, path: Path) -> None:
        """What an unknown key was meant to be is there, in a way: that it is missing is not to be said as well."""
        if self.document.existing(path) != path:
            self._cut.add(path)


def sentence(details: ErrorDetails) -> str:
    """What is wrong with a value and what would be right, in words."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        quoted = re.findall(r"'([^']*)'", context["expected"])
        choices = quoted or re.findall(r"\w+", context["expected"].replace(" or ", " "))
        meant = closest(value, choices) if isinstance(value, str) else None
        advice = f', did you mean "{meant}"?' if meant else ""
        return f"must be {_either(choices)}, not {describe(value)}{advice}"
    if kind in {"model_type", "dict_type"}:
        return f"must be a mapping, not {describe(value)}"
    if kind == "tuple_type":
        advice = "" if value is None else ": put a hyphen before each item, or [ ] around them"
        return f"must be a list, not {describe(value)}{advice}"
    return details["msg"].replace("Input should be", "must be", 1)


def _either(choices: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def _advice(loc: Path) -> str:
    meant = _meant(loc)
    return f'did you mean "{meant}"?' if meant else f"the keys here are {', '.join(_keys(loc[:-1]))}"


def _meant(loc: Path) -> str | None:
    return closest(str(loc[-1]), _keys(loc[:-1]))


def _keys(path: Path) -> list[str]:
    return [key for key in _model_at(path).model_fields if key not in {"description", "tags"}]


def _model_at(path: Path) -> type[BaseModel]:
    model: type[BaseModel] = Configuration
    for part in path:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            model = _model_in(field.annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `tuple[Listener, ...] | None`, `dict[Name, NetworkAcl]` and so on."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next(filter(None, found), None)


class Names:
    """All names of one kind that the file holds, those of refused objects too.

    `complete` is False where an object of the kind could not be read, so that some name may be missing here.
    """

    def __init__(self, document: Document, *routes: Path) -> None:
        self.all: dict[str, None] = {}
        self.complete = True
        for route in routes:
            self._collect(document.root.data, route, 0)
        if any(_leads(cut, route) for cut in document.valueless for route in routes):
            self.complete = False

    def _collect(self, data: Data, route: Path, depth: int) -> None:
        if depth == len(route):
            if isinstance(data, str):
                self.all[data] = None
            else:
                self.complete = False
            return
        part = route[depth]
        if part == EACH and isinstance(data, list):
            for item in data:
                self._collect(item, route, depth + 1)
        elif part == KEY and isinstance(data, Mapping):
            self.all.update(dict.fromkeys(data))
        elif isinstance(data, dict) and part not in {EACH, KEY}:
            if part in data:
                self._collect(data[part], route, depth + 1)
            elif depth == len(route) - 1:
                self.complete = False  # an object without its name
        else:
            self.complete = False


EACH = "*"  # every item of a list
KEY = "**"  # the keys of a mapping


def _leads(cut: Path, route: Path) -> bool:
    """Whether something without a value stands where `route` would pass."""
    return len(cut) <= len(route) and all(
        want == have or (want == EACH and isinstance(have, int)) for have, want in zip(cut, route, strict=False)
    )
