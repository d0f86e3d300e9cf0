"""What an instance says of itself when it registers, in the words of the configuration and under the same rules."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ...dns.registrations import DEREGISTER_AFTER
from .mistakes import Path, closest, spelled
from .model_base import Model
from .models import HOUR, Instance
from .scalars import duration
from .validation import sentence

# Cloud Map's: 30 attributes of an instance, keys of 255 characters, values of 1024, and 5000 for all together.
MOST_ATTRIBUTES: Final = 30
LONGEST_KEY: Final = 255
LONGEST_VALUE: Final = 1024
LONGEST_ATTRIBUTES: Final = 5000
# Seconds. What lives less long would flap when one packet is lost; who is silent for a day is forgotten by people too.
SHORTEST_TTL: Final = 1.0
LONGEST_SILENCE: Final = 24 * HOUR

M = TypeVar("M", bound=Model)


class Mistakes(Exception):
    """What was sent is wrong. Each is the path of a key and a sentence."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class NewInstance(Instance):
    heartbeat_ttl: Annotated[float, *duration(SHORTEST_TTL, HOUR)] | None = None
    """It is unhealthy once it was not heard of for so long. Left out: it sends no heartbeats."""
    deregister_after: Annotated[float, *duration(0, LONGEST_SILENCE)] = DEREGISTER_AFTER
    """It is deregistered after so much more silence."""
    init_health_status: Literal["HEALTHY", "UNHEALTHY"] | None = None
    """What the operator's word is at first, as AWS_INIT_HEALTH_STATUS. Left out: none."""


class HealthWord(Model):
    status: Literal["HEALTHY", "UNHEALTHY", "AUTO"]
    """AUTO takes the word back: checks and heartbeats decide again."""


def new_instance(data: object, instance_id: str) -> NewInstance:
    """Raises Mistakes, with all there are."""
    parsed, mistakes = _parsed(NewInstance, {**data, "id": instance_id} if isinstance(data, dict) else data)
    given: object = data.get("id", instance_id) if isinstance(data, dict) else instance_id
    if given != instance_id:
        mistakes.append(f"id: the address says {instance_id}: leave it out")
    attributes: object = data.get("attributes") if isinstance(data, dict) else None
    if isinstance(attributes, dict):
        mistakes += _too_much(attributes)
    if parsed is None or mistakes:
        raise Mistakes(*mistakes)
    return parsed


def health_word(data: object) -> bool | None:
    """Raises Mistakes, with all there are."""
    parsed, mistakes = _parsed(HealthWord, data)
    if parsed is None:
        raise Mistakes(*mistakes)
    return None if parsed.status == "AUTO" else parsed.status == "HEALTHY"


def _parsed(kind: type[M], data: object) -> tuple[M | None, list[str]]:
    try:
        return kind.model_validate(data), []
    except ValidationError as error:
        return None, [_in_words(kind, details) for details in error.errors(include_url=False)]


def _in_words(kind: type[Model], details: ErrorDetails) -> str:
    path: Path = details["loc"]
    if details["type"] == "missing":
        what = "is missing and has no default"
    elif details["type"] == "extra_forbidden":
        keys = [key for key in kind.model_fields if key not in {"description", "tags", "id"}]
        meant = closest(str(path[-1]), keys)
        what = f'unknown key, did you mean "{meant}"?' if meant else f"unknown key, the keys are {', '.join(keys)}"
    else:
        what = sentence(details)
    return f"{spelled(path)}: {what}" if path else what


def _too_much(attributes: dict[str, Any]) -> list[str]:
    mistakes = list[str]()
    if len(attributes) > MOST_ATTRIBUTES:
        mistakes.append(f"attributes: are {len(attributes)}, at most {MOST_ATTRIBUTES} are kept")
    for key, value in attributes.items():
        if not 0 < len(key) <= LONGEST_KEY:
            mistakes.append(f"attributes.{key[:20]}: has a key of {len(key)} characters, not 1 to {LONGEST_KEY}")
        if isinstance(value, str) and len(value) > LONGEST_VALUE:
            mistakes.append(f"attributes.{key[:20]}: has {len(value)} characters, at most {LONGEST_VALUE} are kept")
    total = sum(len(key) + len(value) for key, value in attributes.items() if isinstance(value, str))
    if total > LONGEST_ATTRIBUTES:
        mistakes.append(f"attributes: have {total} characters in all, at most {LONGEST_ATTRIBUTES} are kept")
    return mistakes
