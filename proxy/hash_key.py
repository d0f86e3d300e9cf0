"""What a consistent hash goes by: the client's address, the path, a header field or a cookie of the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class HashKey:
    """From `source`, `path`, `header:NAME` or `cookie:NAME` to the bytes of one request that it names."""

    __slots__ = ("_kind", "_name")

    def __init__(self, text: str) -> None:
        self._kind, _, name = text.partition(":")
        self._name = name.lower().encode() if self._kind == "header" else name.encode()

    def of(self, source: str, uri: bytes, values: Callable[[bytes], Sequence[bytes]]) -> bytes | None:
        """None when the request has no such thing; `values` are those of a header field, its name in lower case."""
        match self._kind:
            case "source":
                return source.encode()
            case "path":
                return uri.partition(b"?")[0]
            case "header":
                return b", ".join(values(self._name)) or None
            case _:
                return cookie(values(b"cookie"), self._name)


def cookie(lines: Sequence[bytes], name: bytes) -> bytes | None:
    """The first cookie of this name (RFC 6265 section 5.4), names compared with case; None without a value."""
    for line in lines:
        for pair in line.split(b";"):
            key, _, value = pair.partition(b"=")
            if key.strip() == name:
                return value.strip() or None
    return None
