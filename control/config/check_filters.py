"""Filters: that they are installed, that they can be loaded, and that their own models take what they are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..filters import GROUP, UnusableFilterError
from .mistakes import LISTED, Path, closest
from .models import Listener, LoadBalancer
from .models_filters import Filter
from .review import Review
from .validation import sentence

READS_REQUESTS: Final = frozenset({"HTTP", "HTTPS"})


def check_filters(review: Review, installed: Mapping[str, type[Any]]) -> None:
    for path, balancer in review.load_balancers():
        for place, filters in _named(review, path, balancer):
            for index, named in enumerate(filters):
                _filter(review, (*place, index), named, installed)


def _named(review: Review, path: Path, balancer: LoadBalancer) -> Iterator[tuple[Path, tuple[Filter, ...]]]:
    for number, listener in enumerate(balancer.listeners):
        at = (*path, "listeners", number)
        _protocol(review, at, listener)
        yield (*at, "filters"), listener.filters
        yield from (((*at, "rules", index, "filters"), rule.filters) for index, rule in enumerate(listener.rules))


def _protocol(review: Review, path: Path, listener: Listener) -> None:
    if listener.filters and listener.protocol not in READS_REQUESTS and review.sound((*path, "protocol")):
        message = f"a {listener.protocol} listener reads no requests: filters are for HTTP, HTTPS"
        review.mistake((*path, "filters"), message)


def _filter(review: Review, path: Path, named: Filter, installed: Mapping[str, type[Any]]) -> None:
    if not review.sound((*path, "name")):
        return
    try:
        kind = installed[named.name]
    except KeyError:
        review.mistake((*path, "name"), f'no filter is named "{named.name}"{_advice(named.name, tuple(installed))}')
        return
    except UnusableFilterError as error:
        review.mistake((*path, "name"), f"the filter {named.name} {error}")
        return
    if review.sound((*path, "config")):
        _config(review, (*path, "config"), named, kind.Config)


def _advice(name: str, installed: tuple[str, ...]) -> str:
    if meant := closest(name, installed):
        return f', did you mean "{meant}"?'
    if not installed:
        return f": no installed package has entry points of the group {GROUP}"
    more = ", ..." if len(installed) > LISTED else ""
    return f", installed are {', '.join(installed[:LISTED])}{more}"


def _config(review: Review, path: Path, named: Filter, model: type[BaseModel]) -> None:
    try:
        model.model_validate(named.config)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        if "config" not in named.model_fields_set:
            wanted = ", ".join(str(details["loc"][0]) for details in errors if details["loc"])
            review.mistake(path, f"is missing, and the filter {named.name} wants {wanted or 'one'}", at_key=True)
            return
        for details in errors:
            _mistake(review, path, details, model)
    except Exception as error:  # noqa: BLE001 - a stranger's validator
        review.mistake(path, f"the filter {named.name} cannot make sense of it: {type(error).__name__}: {error}")


def _mistake(review: Review, path: Path, details: ErrorDetails, model: type[BaseModel]) -> None:
    place = (*path, *details["loc"])
    if details["type"] == "missing":
        review.mistake(place, "is missing and has no default", at_key=True)
    elif details["type"] == "extra_forbidden":
        keys = [field.alias or name for name, field in model.model_fields.items()] if len(details["loc"]) == 1 else []
        meant = closest(str(place[-1]), keys)
        advice = f', did you mean "{meant}"?' if meant else f", the keys here are {', '.join(keys)}" if keys else ""
        review.mistake(place, f"unknown key{advice}", at_key=True)
    else:
        review.mistake(place, sentence(details))
