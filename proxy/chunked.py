"""Chunked bodies (RFC 9112 7.1), checked byte for byte while they pass.

What is right and plain goes on as the very bytes that came in, without a copy; chunk extensions and trailers are
checked and left out; whatever is wrong ends the message. A line that is not complete yet is held back, never
forwarded, so the other side sees whole size lines only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .http_fields import BadMessage, field_line

_size = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match
_extended = re.compile(rb"[0-9A-Fa-f]{1,16}[ \t]*+;").match
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = _TOKEN + rb"|\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
_size_with_extension = re.compile(
    rb"([0-9A-Fa-f]{1,16})"
    rb"(?:[ \t]*+;[ \t]*+" + _TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + _VALUE + rb"))?+)++"
    rb"\r\n"
).fullmatch
MAX_CHUNK = (1 << 63) - 1

MAX_SIZE_LINE = 16 + 2  # digits and CRLF

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class ChunkLimits(NamedTuple):
    """Bytes behind each size, bytes of all trailer fields, and how many they are. The defaults are ListenerLimits'."""

    extension: int = 256
    trailer: int = 8 * 1024
    trailer_fields: int = 20


DEFAULT_LIMITS = ChunkLimits()


class ChunkedReader:
    """Feed it what arrives; it gives what goes on. `done` says that the body is complete, `rest` what came after it.

    With `unwrap` only the content goes on, for a HTTP/1.0 client that does not know chunks.
    """

    __slots__ = ("_fields", "_held", "_left", "_limits", "_state", "_trailer", "_unwrap", "content", "done", "rest")

    def __init__(self, limits: ChunkLimits = DEFAULT_LIMITS, *, unwrap: bool = False) -> None:
        self._limits = limits
        self._held: bytes = b""
        self._left = 0
        self._state = _SIZE
        self._trailer = self._fields = 0
        self._unwrap = unwrap
        self.content = 0  # bytes of content so far
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Raises BadMessage(400) when the body is not one, or has more around its content than is allowed."""
        limits = self._limits
        if self._held:
            data = self._held + data
            self._held = b""
        spans: list[bytes] = []
        start = 0  # from here on nothing was copied: data[start:position] goes on as it is
        position = 0
        end = len(data)
        unwrap = self._unwrap
        while position < end:
            if self._state == _DATA:
                take = min(self._left, end - position)
                if unwrap:
                    spans.append(data[position : position + take])
                position += take
                self._left -= take
                self.content += take
                if self._left:
                    break
                self._state = _DATA_END
            elif self._state == _DATA_END:
                if end - position < 2:
                    if data[position] != 13:
                        raise BadMessage(400, "bad_chunk")
                    break
                if data[position : position + 2] != b"\r\n":
                    raise BadMessage(400, "bad_chunk")
                position += 2
                self._state = _SIZE
            elif self._state == _SIZE:
                match = _size(data, position)
                if match is not None:
                    digits, after = match[1], match.end()
                else:
                    after = data.find(b"\n", position) + 1
                    if after == 0:
                        if end - position > MAX_SIZE_LINE + limits.extension:
                            raise _too_long(data, position)
                        break
                    if after - position > MAX_SIZE_LINE + limits.extension:
                        raise _too_long(data, position)
                    extended = _size_with_extension(data[position:after])
                    if extended is None:
                        raise BadMessage(400, "bad_chunk")
                    digits = extended[1]
                self._left = int(digits, 16)
                if self._left > MAX_CHUNK:
                    raise BadMessage(400, "bad_chunk")
                if not unwrap and (match is None or self._left == 0):
                    # The line does not go on as it came: an extension is left out, and the last chunk is written
                    # by us, once the trailers were read.
                    spans.append(data[start:position])
                    start = after
                    if self._left:
                        spans.append(digits + b"\r\n")
                position = after
                self._state = _DATA if self._left else _TRAILER
            else:
                after = data.find(b"\n", position) + 1
                if after == 0:
                    if end - position + self._trailer > limits.trailer:
                        raise BadMessage(400, "trailer_too_long")
                    break
                line = data[position:after]
                position = start = after
                if line == b"\r\n":
                    self.done = True
                    if not unwrap:
                        spans.append(b"0\r\n\r\n")
                    self.rest = data[after:]
                    return spans[0] if len(spans) == 1 else b"".join(spans)
                self._trailer += len(line)
                if self._trailer > limits.trailer:
                    raise BadMessage(400, "trailer_too_long")
                if line[-2:] != b"\r\n" or field_line(line[:-2]) is None:
                    raise BadMessage(400, "bad_trailer")
                self._fields += 1
                if self._fields > limits.trailer_fields:
                    raise BadMessage(400, "too_many_trailer_fields")
        if unwrap:
            self._held = data[position:]
            return b"".join(spans)
        self._held = data[position:]
        if start == 0 and position == end and not spans:
            return data
        spans.append(data[start:position])
        return b"".join(spans)


def _too_long(data: bytes, position: int) -> BadMessage:
    """A size line beyond its limit: for its extension, or because it never was one."""
    return BadMessage(400, "chunk_extension_too_long" if _extended(data, position) else "bad_chunk")


def wrap(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
