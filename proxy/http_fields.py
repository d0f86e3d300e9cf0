"""Header fields of HTTP/1, as both requests and responses have them: syntax, limits, and what each field is to us.

Strict by RFC 9110 and 9112: what is not a field line is refused, never mended. What a line means is remembered by its
bytes, for peers repeat themselves; a line's limits and syntax were checked before it was remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Limits. ALB refuses request lines and single fields over 16 KiB and heads over 64 KiB; Envoy allows 100 fields.
MAX_REQUEST_LINE = 16 * 1024
MAX_FIELD = 16 * 1024
MAX_HEAD = 64 * 1024
MAX_FIELDS = 100
MAX_FORWARDED_FOR = 30  # addresses in X-Forwarded-For; ALB answers 463 above
MAX_LENGTH = (1 << 63) - 1


class HeadLimits(NamedTuple):
    """How large the head of a request may be, apart from its first line."""

    field: int = MAX_FIELD
    head: int = MAX_HEAD
    fields: int = MAX_FIELDS
    forwarded_for: int = MAX_FORWARDED_FOR


HEAD_LIMITS = HeadLimits()


TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
is_token = re.compile(TOKEN + rb"++").fullmatch
# Possessive quantifiers: linear in the block, whatever it holds (RFC 9112 5: no white space before the colon,
# no line folding, no bare CR or LF; RFC 9110 5.5: no control characters in a value).
_field_lines = re.compile(rb"(?:" + TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+").fullmatch
field_line = re.compile(TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+").fullmatch
_host = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+;=%]{1,255})(?::([0-9]{0,5}))?").fullmatch
_digits = re.compile(rb"[0-9]{1,19}").fullmatch


class BadMessage(Exception):
    """A message that is refused. `status` answers a client; for a target's message the client gets 502."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


# What a field is to us. PLAIN is forwarded as it came, and so is TRACE, unless the listener names requests anew.
PLAIN, HOST, LENGTH, CODING, CONNECTION, DROP, FORWARDED_FOR, EXPECT, UPGRADE, KEEP_ALIVE, TRACE = range(11)

# Connection may name fields to remove, but not these: a client must not strip what we or the target rely on
# (Traefik CVE-2024-45410).
_PROTECTED = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie", b"set-cookie", b"forwarded")
)
_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))

Line = tuple[int, bytes, bytes]  # kind, lower-case name, value without the white space around it (of Host: the host)


class LineMemo:
    """One field line to its meaning. Clients vary one field and repeat the others, so a head that is new is mostly
    made of lines that are not. Bounded: cleared when full, for what is worth keeping is back at once."""

    __slots__ = ("_kinds", "known", "lessons")

    MAX_LINES = 4096
    MAX_LINE = 512  # longer lines (cookies mostly) are not kept: 4096 of them are at most 2 MiB

    def __init__(self, kinds: dict[bytes, int]) -> None:
        self._kinds = kinds
        self.known: dict[bytes, Line] = {}
        self.lessons = 0  # how many lines were new

    def learn(self, line: bytes, max_field: int = MAX_FIELD) -> Line:
        """`max_field` is at least MAX_LINE, so that what is known is right under every limit."""
        if len(line) > max_field:
            raise BadMessage(431, "field_too_long")
        name, _, value = line.partition(b":")
        name = name.lower()
        # A name with an underscore reads like another one behind CGI's rules: nginx drops them, and so do we.
        kind = DROP if b"_" in name else self._kinds.get(name, PLAIN)
        value = value.strip(b" \t")
        meaning = (kind, name, parse_host(value) if kind == HOST else value)
        if len(line) <= self.MAX_LINE:
            self.lessons += 1
            if len(self.known) >= self.MAX_LINES:
                self.known.clear()
            self.known[line] = meaning
        return meaning


def split_lines(block: bytes, max_fields: int = MAX_FIELDS) -> list[bytes]:
    """The lines of a block of field lines, each of which ends with CRLF; all of them are right in syntax."""
    if _field_lines(block) is None:
        raise BadMessage(400, "bad_header")
    lines = block.split(b"\r\n")
    lines.pop()  # what follows the last CRLF
    if len(lines) > max_fields:
        raise BadMessage(431, "too_many_fields")
    return lines


def parse_length(value: bytes) -> int:
    """Content-Length is 1*DIGIT in ASCII (RFC 9110 8.6); int() alone would take b"+1_0"."""
    if _digits(value) is None:
        raise BadMessage(400, "bad_content_length")
    length = int(value)
    if length > MAX_LENGTH:
        raise BadMessage(400, "bad_content_length")
    return length


def parse_host(value: bytes) -> bytes:
    """The host of a Host field or authority, in lower case and without its port."""
    match = _host(value)
    if match is None or (match[2] and int(match[2]) > 65535):
        raise BadMessage(400, "bad_host")
    return match[1].lower()


def tokens(value: bytes) -> list[bytes]:
    """A list of tokens (RFC 9110 5.6.1), in lower case."""
    return [token for token in (part.strip(b" \t").lower() for part in value.split(b",")) if token]


def check_coding(codings: Sequence[bytes]) -> None:
    """RFC 9112 6.1: chunked, once, is the only coding we can read; anything else is not implemented or faulty."""
    if len(codings) > 1:
        raise BadMessage(400, "multiple_transfer_encoding")
    coding = codings[0].lower()
    if coding == b"chunked":
        return
    parts = [part.strip(b" \t") for part in coding.split(b",")]
    if any(is_token(part) is None for part in parts) or parts.count(b"chunked") > 1:
        raise BadMessage(400, "bad_transfer_encoding")
    if b"chunked" in parts and parts[-1] != b"chunked":
        raise BadMessage(400, "bad_transfer_encoding")
    raise BadMessage(501, "unsupported_transfer_encoding")


def remover(connection: Sequence[bytes]) -> Callable[[bytes], bool] | None:
    """Which lines the options of Connection remove (RFC 9110 7.6.1), or None when they name no field."""
    named = {
        name
        for name in connection
        if name not in _OPTIONS and name not in _PROTECTED and not name.startswith(b"x-forwarded-")
    }
    if not named:
        return None
    return lambda line: line.partition(b":")[0].lower() in named
