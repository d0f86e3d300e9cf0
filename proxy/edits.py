"""What a listener or a rule changes in the messages that go through: URL, host, request fields, response fields.

Pure. Peers repeat themselves, and what is changed in a head depends on the configuration alone: so every head is
changed once and remembered by its bytes, as it was when it was parsed. Only the URL differs from request to request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from .http1 import ResponseHead
from .http_fields import MAX_REQUEST_LINE, BadMessage, parse_host
from .regex import BadExpression, Expression, TooDear
from .specs import UNCHANGED, HeaderChanges, ListenerSpec, Rewrite, RuleSpec

# Names that nobody may change: they frame the message, belong to one connection, or are said by us alone.
_HOP_BY_HOP = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
RESERVED_IN_REQUESTS = _HOP_BY_HOP | {
    "expect",
    "host",  # for this there is a rewrite
    "http2-settings",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
}
RESERVED_IN_RESPONSES = _HOP_BY_HOP

# Of what is remembered, per listener or rule that changes heads: some 2 MiB of browsers' requests, 4 MiB at worst.
MAX_ENTRIES = 512
MAX_BYTES = 4096

_Changed = TypeVar("_Changed", bytes, ResponseHead)
_reference = re.compile(r"\$(\$|[0-9])")
_visible = re.compile(rb"/[!\"$-~]*").fullmatch


# In the words of ALB's access log.
TRANSFORMED = "TransformSuccess"
_FAILURES = {
    "no host": "TransformInvalidHost",
    "no path": "TransformInvalidPath",
    "too dear": "TransformReplaceError",
}


class RewriteError(Exception):
    """What a rewrite makes of this request cannot be sent, or would take too long to find."""

    @property
    def status(self) -> str:
        return _FAILURES[str(self)]


class Rewriter:
    """A `Rewrite`, compiled. BadExpression, a ValueError, says what is wrong with it."""

    __slots__ = ("_expression", "_parts")

    def __init__(self, rewrite: Rewrite) -> None:
        self._expression = Expression(rewrite.regex)
        # Bytes as they are and numbers of groups, in turn.
        self._parts: list[bytes | int] = []
        at = 0
        for reference in _reference.finditer(rewrite.replace):
            self._parts.append(rewrite.replace[at : reference.start()].encode())
            self._parts.append(b"$" if reference[1] == "$" else int(reference[1]))
            at = reference.end()
        self._parts.append(rewrite.replace[at:].encode())
        wanted = max((part for part in self._parts if isinstance(part, int)), default=0)
        if wanted > self._expression.groups:
            raise BadExpression(f"has {self._expression.groups} groups, and the replacement asks for ${wanted}")

    def apply(self, text: bytes) -> bytes:
        try:
            spans = self._expression.search(text)
        except TooDear as error:
            raise RewriteError("too dear") from error
        if spans is None:
            return text
        # A group that took no part is (-1, -1), and text[-1:-1] is nothing.
        parts = [text[spans[2 * part] : spans[2 * part + 1]] if isinstance(part, int) else part for part in self._parts]
        return text[: spans[0]] + b"".join(parts) + text[spans[1] :]


_rewriter = lru_cache(maxsize=1024)(Rewriter)  # of the configuration's; each is compiled when checked, and then used


def check_rewrites(spec: ListenerSpec) -> None:
    """ValueError for one that cannot be compiled."""
    for rule in spec.rules:
        for rewrite in (rule.url_rewrite, rule.host_rewrite):
            if rewrite is not None:
                try:
                    _rewriter(rewrite)
                except BadExpression as error:
                    raise ValueError(
                        f"rule {rule.priority} of {spec.key}: the regex {rewrite.regex!r} {error}"
                    ) from error


class _Change:
    """Compiled `HeaderChanges`: which lines go, which lines come."""

    __slots__ = ("_come", "_gone")

    def __init__(self, changes: HeaderChanges) -> None:
        self._gone = frozenset(name.lower().encode() for name in (*changes.remove, *(name for name, _ in changes.set)))
        self._come = [f"{name}: {value}".encode() for name, value in (*changes.set, *changes.add)]

    def apply(self, lines: list[bytes]) -> list[bytes]:
        gone = self._gone
        kept = [line for line in lines if line.partition(b":")[0].lower() not in gone] if gone else lines
        return kept + self._come


def _compile(changes: Sequence[HeaderChanges]) -> list[_Change]:
    return [_Change(each) for each in changes if each != UNCHANGED]


class Edits:
    """All that one route changes. The changes of several places are made in the order given."""

    __slots__ = ("_host", "_request", "_requests", "_response", "_responses", "_url")

    def __init__(
        self,
        request: Sequence[HeaderChanges],
        response: Sequence[HeaderChanges],
        url: Rewrite | None = None,
        host: Rewrite | None = None,
    ) -> None:
        self._url = None if url is None else _rewriter(url)
        self._host = None if host is None else _rewriter(host)
        self._request = _compile(request)
        self._response = _compile(response)
        self._requests: dict[bytes, bytes] = {}
        self._responses: dict[bytes, ResponseHead] = {}

    def request(self, uri: bytes, forward: bytes) -> tuple[bytes, bytes]:
        """The request target and the fields of `RequestHead.forward`, changed. RewriteError: answer 500."""
        if self._url is not None:
            uri = self._url.apply(uri)
            if _visible(uri) is None or len(uri) > MAX_REQUEST_LINE:
                raise RewriteError("no path")
        if self._host is None and not self._request:
            return uri, forward
        changed = self._requests.get(forward)
        if changed is None:
            changed = self._changed_request(forward)
            _remember(self._requests, forward, changed)
        return uri, changed

    def rewritten(self, uri: bytes, host: bytes) -> tuple[bytes, bytes, str]:
        """For the log: host and URI where rewriting changed them, and how it went; three times nothing without it."""
        if self._url is None and self._host is None:
            return b"", b"", ""
        try:
            changed_uri, fields = self.request(uri, b"Host: %b\r\n" % host)
        except RewriteError as error:
            return b"", b"", error.status
        changed_host = fields.partition(b"\r\n")[0].removeprefix(b"Host: ")
        return changed_host if changed_host != host else b"", changed_uri if changed_uri != uri else b"", TRANSFORMED

    def _changed_request(self, forward: bytes) -> bytes:
        *lines, unfinished = forward.split(b"\r\n")  # the client's address is still to come
        if self._host is not None:
            lines = [self._changed_host(line) if line[:5].lower() == b"host:" else line for line in lines]
        for change in self._request:
            lines = change.apply(lines)
        return b"\r\n".join((*lines, unfinished))

    def _changed_host(self, line: bytes) -> bytes:
        assert self._host is not None
        value = line[5:].strip(b" \t")
        host = parse_host(value)
        changed = self._host.apply(host)
        if changed == host:
            return line
        try:
            if parse_host(changed) == changed.lower():  # it brings no port, so the client's stays
                changed += value[len(host) :]
        except BadMessage as error:
            raise RewriteError("no host") from error
        return b"Host: " + changed

    def response(self, head: ResponseHead) -> ResponseHead:
        if not self._response:
            return head
        changed = self._responses.get(head.whole)
        if changed is None:
            forward = self._changed_response(head.forward)
            changed = replace(head, forward=forward, whole=forward + head.whole[len(head.forward) :])
            _remember(self._responses, head.whole, changed)
        return changed

    def answer(self, message: bytes) -> bytes:
        """An answer of our own, whole."""
        head, _, body = message.partition(b"\r\n\r\n")
        return b"%b\r\n\r\n%b" % (self._changed_response(head), body)

    def _changed_response(self, head: bytes) -> bytes:
        status, *lines = head.split(b"\r\n")
        for change in self._response:
            lines = change.apply(lines)
        return b"\r\n".join((status, *lines))


def listener_edits(spec: ListenerSpec) -> Edits | None:
    """What every request to it meets; None for nothing."""
    if spec.request_headers == spec.response_headers == UNCHANGED:
        return None
    return Edits([spec.request_headers], [spec.response_headers])


def rule_edits(spec: ListenerSpec, rule: RuleSpec) -> Edits | None:
    """What a rule changes, after its listener; None where it adds nothing to that."""
    own = (rule.url_rewrite, rule.host_rewrite, rule.request_headers, rule.response_headers)
    if own == (None, None, UNCHANGED, UNCHANGED):
        return None
    return Edits(
        [spec.request_headers, rule.request_headers],
        [spec.response_headers, rule.response_headers],
        rule.url_rewrite,
        rule.host_rewrite,
    )


def _remember(memo: dict[bytes, _Changed], key: bytes, changed: _Changed) -> None:
    if len(key) <= MAX_BYTES:
        if len(memo) >= MAX_ENTRIES:
            memo.clear()
        memo[key] = changed
