"""What a filter of HTTP requests sees and gives back: `Request`, `TargetResponse`, `Response`, `Headers`, `Target`.

A filter is a class with a `Config` and any of on_request, pick, on_upstream_request, on_response, on_log; when each is
called is told in docs/filters.md. Everything here is text, as Python people have it; what cannot be said on the wire is
refused where it is written, with a ValueError, so that no filter can split a message in two. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Any, Protocol

from .edits import RESERVED_IN_REQUESTS, RESERVED_IN_RESPONSES
from .http_fields import MAX_REQUEST_LINE, BadMessage, field_line, parse_host
from .specs import TargetSpec

__all__ = ["Headers", "Request", "Response", "Target", "TargetResponse"]

_RESERVED_IN_REQUESTS = frozenset(RESERVED_IN_REQUESTS - {"host"})  # a host is checked instead
# What a filter's own answer is framed by is ours to say.
_RESERVED_IN_ANSWERS = RESERVED_IN_RESPONSES | {"date"}
_BODILESS = frozenset((204, 304))


class Headers(MutableMapping[str, str]):
    """Header fields in order; names are compared without case. `headers[name]` joins all values of a name by a comma.

    Fields that frame the message or belong to one connection may be read, and not be changed.
    """

    __slots__ = ("_lines", "_reserved", "changed")

    def __init__(self, lines: list[bytes], reserved: AbstractSet[str]) -> None:
        self._lines = lines
        self._reserved = reserved
        self.changed = False

    def get_all(self, name: str) -> list[str]:
        """Every value of the name, in order; Set-Cookie must not be joined."""
        wanted = name.lower()
        return [_value(line) for line in self._lines if _name(line) == wanted]

    def add(self, name: str, value: str) -> None:
        """Beside what is there."""
        self._lines.append(self._checked(name, value))
        self.changed = True

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        """In place of what is there."""
        line, wanted = self._checked(name, value), name.lower()
        self._lines[:] = [line for line in self._lines if _name(line) != wanted]
        self._lines.append(line)
        self.changed = True

    def __delitem__(self, name: str) -> None:
        wanted = name.lower()
        if wanted == "host":
            raise ValueError("a request has a host: it can be set, and not be deleted")
        self._refuse_reserved(wanted)
        kept = [line for line in self._lines if _name(line) != wanted]
        if len(kept) == len(self._lines):
            raise KeyError(name)
        self._lines[:] = kept
        self.changed = True

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(map(_name, self._lines)))

    def __len__(self) -> int:
        return len(set(map(_name, self._lines)))

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"

    def block(self) -> bytes:
        """The lines, with CRLF between them."""
        return b"\r\n".join(self._lines)

    def _checked(self, name: str, value: str) -> bytes:
        self._refuse_reserved(name.lower())
        try:
            line = f"{name}: {value}".encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"{name}: {value!r} has characters that a header field cannot carry") from None
        if field_line(line) is None or _name(line) != name.lower():
            raise ValueError(f"{name!r}: {value!r} is no header field")
        if name.lower() == "host":
            try:
                parse_host(value.encode("latin-1"))
            except BadMessage:
                raise ValueError(f"{value!r} is no host") from None
        return line

    def _refuse_reserved(self, name: str) -> None:
        if name in self._reserved:
            raise ValueError(f"{name} cannot be changed: Penstock writes it itself")


def _name(line: bytes) -> str:
    return line.partition(b":")[0].lower().decode("latin-1")


def _value(line: bytes) -> str:
    return line.partition(b":")[2].strip(b" \t").decode("latin-1")


class Request:
    """A request on its way. What is changed of it is what its target gets: `path`, `query` and `headers` may be.

    The log, the rules and stickiness go by what the client said.
    """

    __slots__ = ("_block", "_headers", "_uri", "client", "listener", "method", "request_id", "rule", "scheme", "state")

    def __init__(
        self,
        method: bytes,
        uri: bytes,
        block: bytes,
        *,
        client: tuple[str, int] = ("", 0),
        scheme: str = "http",
        listener: str = "",
        rule: str = "default",
        request_id: bytes = b"",
    ) -> None:
        self.method = method.decode("latin-1")
        self.client = client  # address and port, of the connection or as a trusted proxy announced it
        self.scheme = scheme  # http or https, towards the client
        self.listener = listener
        self.rule = rule  # the priority of the listener's rule that took the request, or "default"
        self.request_id = request_id.decode("latin-1")
        self.state: dict[str, Any] = {}  # for filters to keep what they know of this request
        self.becomes(uri, block)

    def becomes(self, uri: bytes, block: bytes) -> None:
        self._uri = uri
        self._block = block
        self._headers: Headers | None = None

    def on_the_wire(self) -> tuple[bytes, bytes]:
        """The request target, and the header lines without their last CRLF."""
        headers = self._headers
        return self._uri, self._block if headers is None or not headers.changed else headers.block()

    @property
    def headers(self) -> Headers:
        if self._headers is None:
            self._headers = Headers(self._block.split(b"\r\n") if self._block else [], _RESERVED_IN_REQUESTS)
        return self._headers

    @property
    def host(self) -> str:
        """With its port, if the client said one; empty in HTTP/1.0 without Host."""
        return self.headers.get("host", "")

    @property
    def target(self) -> str:
        """Path and query as they were sent, percent-encoded."""
        return self._uri.decode("latin-1")

    @target.setter
    def target(self, target: str) -> None:
        visible = target.isascii() and target.isprintable() and " " not in target
        if not (visible and target.startswith("/") and "#" not in target and len(target) <= MAX_REQUEST_LINE):
            raise ValueError(f"{target[:80]!r} is no path: begin with /, and percent-encode what is not plain ASCII")
        self._uri = target.encode()

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @path.setter
    def path(self, path: str) -> None:
        if "?" in path:
            raise ValueError(f"{path[:80]!r} has a ? in it: encode it as %3F, or set `target`")
        self.target = path + (f"?{self.query}" if self.query else "")

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @query.setter
    def query(self, query: str) -> None:
        self.target = self.path + (f"?{query}" if query else "")

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} from {self.client[0]}>"


class Response:
    """An answer that a filter gives by itself, complete. A body of text is sent as UTF-8."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int = 200, body: str | bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"{status} is no status of an answer: 200 to 599 are")
        if body and status in _BODILESS:
            raise ValueError(f"an answer of {status} has no body")
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = Headers([], _RESERVED_IN_ANSWERS)
        if body:
            self.headers["content-type"] = (
                "text/plain; charset=utf-8" if isinstance(body, str) else "application/octet-stream"
            )
        for name, value in (headers or {}).items():
            self.headers[name] = value

    def message(self, date: bytes, *, close: bool, head: bool) -> bytes:
        """As HTTP/1 has it. `head`: the answer to a HEAD request."""
        lines = [_status_line(self.status), b"Date: " + date, *([b"Connection: close"] if close else ())]
        lines += [self.headers.block()] if self.headers else []
        if self.status not in _BODILESS:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head else self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class TargetResponse:
    """The head of a target's answer, before the client gets it. `status` and `headers` may be changed."""

    __slots__ = ("_lines", "_status", "headers")

    def __init__(self, lines: bytes) -> None:
        """`lines`: the status line and the fields, without framing."""
        line, *fields = lines.split(b"\r\n")
        self._lines = lines
        self._status = int(line[9:12])
        self.headers = Headers(fields, RESERVED_IN_RESPONSES)

    @property
    def status(self) -> int:
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        """Not from or to one that has no body, for the body is on its way: who wants that returns a Response."""
        if status != self._status and (not 200 <= status <= 599 or {status, self._status} & _BODILESS):
            raise ValueError(f"{self._status} cannot become {status}: return a Response in its place")
        self._status = status

    def on_the_wire(self) -> bytes:
        line, _, block = self._lines.partition(b"\r\n")
        if self._status != int(line[9:12]):
            line = _status_line(self._status)
        if self.headers.changed:
            block = self.headers.block()
        return line + b"\r\n" + block if block else line

    def __repr__(self) -> str:
        return f"<TargetResponse {self.status}>"


class Target(Protocol):
    """One of those that may be picked now. `key` is its address and port: `192.0.2.10:8080`."""

    @property
    def key(self) -> str: ...
    @property
    def spec(self) -> TargetSpec: ...
    @property
    def weight(self) -> float: ...
    @property
    def in_flight(self) -> int: ...


def _status_line(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase if status in _PHRASES else ""
    return b"HTTP/1.1 %d %b" % (status, phrase.encode())


_PHRASES = frozenset(HTTPStatus)
