"""What listeners and rules change in messages: rewrites that can work, header fields that are anybody's to change."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ...proxy.edits import RESERVED_IN_REQUESTS, RESERVED_IN_RESPONSES, Rewriter
from ...proxy.regex import BadExpression
from ...proxy.specs import Rewrite
from .mistakes import Path
from .models import Listener, Rule
from .models_rules import HeaderChanges
from .review import Review

# What to write instead of changing a field that is ours.
_INSTEAD = {
    "host": "use transforms: {host_header_rewrite: ...}",
    "x-forwarded-for": "Penstock says there whom the request came from",
    "x-forwarded-port": "Penstock says there what the client connected to",
    "x-forwarded-proto": "Penstock says there what the client spoke",
}
_FRAMING = "it frames the message or belongs to one connection, and Penstock writes it itself"


def check_listener_changes(review: Review, path: Path, listener: Listener) -> None:
    if listener.protocol in {"TCP", "TLS"}:
        for key in ("request_headers", "response_headers"):
            if getattr(listener, key) is not None:
                review.mistake(
                    (*path, key), f"a {listener.protocol} listener reads no messages: this is for HTTP, HTTPS"
                )
    _headers(review, path, listener)


def check_rule_changes(review: Review, path: Path, rule: Rule) -> None:
    _headers(review, path, rule)
    if rule.transforms is None:
        return
    place = (*path, "transforms")
    if rule.action.forward is None and review.sound((*path, "action")):
        review.mistake(place, "is for requests that are forwarded, and this rule's are answered here")
    for key in ("url_rewrite", "host_header_rewrite"):
        rewrite = getattr(rule.transforms, key)
        if rewrite is not None and review.sound((*place, key, "regex"), (*place, key, "replace")):
            try:
                Rewriter(Rewrite(rewrite.regex, rewrite.replace))
            except BadExpression as error:
                review.mistake((*place, key, "replace"), f"the regex {error}")


def _headers(review: Review, path: Path, changed: Listener | Rule) -> None:
    if changed.request_headers is not None:
        _changes(review, (*path, "request_headers"), changed.request_headers, RESERVED_IN_REQUESTS)
    if changed.response_headers is not None:
        _changes(review, (*path, "response_headers"), changed.response_headers, RESERVED_IN_RESPONSES)


def _changes(review: Review, path: Path, changes: HeaderChanges, reserved: AbstractSet[str]) -> None:
    named = [((*path, "remove", index), name) for index, name in enumerate(changes.remove)]
    named += [((*path, key, name), name) for key in ("set", "add") for name in getattr(changes, key)]
    for place, name in named:
        if name.lower() in reserved:
            review.mistake(place, f"{name} cannot be changed: {_INSTEAD.get(name.lower(), _FRAMING)}", at_key=True)
    for key in ("remove", "set"):
        review.unique(((place, name.lower()) for place, name in named if place[len(path)] == key), "{} is named")
