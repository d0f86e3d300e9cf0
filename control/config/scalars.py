"""The small values of a configuration: durations, ports, ranges, CIDRs, names. Each refuses with a whole sentence.

A validator here takes what YAML gave and returns the value, or raises ValueError whose text is what a person reads
after `path.to.key:`. The JSON Schema of each stands beside it, since pydantic cannot see into a function.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from ...proxy.regex import BadExpression, Expression

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Endpoint = tuple[str, int]
PortSpan = tuple[int, int]

LAST_PORT: Final = 65535
MOST_WORKERS: Final = 512  # as many processors as large machines have
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,15})(|B|K|KiB|M|MiB|G|GiB)", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110 section 5.6.2


def describe(value: object) -> str:
    """What was found, as one would say it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else "nothing"


def seconds_as_text(seconds: float) -> str:
    """`0.5` as `500ms`, `60` as `60s`: the way a file would write it."""
    return f"{seconds * 1000:g}ms" if 0 < seconds < 1 else f"{seconds:g}s"


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int:
            quoted = isinstance(value, str) and value.isascii() and value.isdigit()
            advice = ": leave the quotes out" if quoted else ""
            raise ValueError(f"must be a whole number from {low} to {high}, not {describe(value)}{advice}")
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}, not {value}")
        return value

    return check


def _duration(low: float, high: float, *, whole: bool = False) -> Callable[[object], float]:
    def check(value: object) -> float:
        seconds = math.nan
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            seconds = round(float(match[1]) * _UNITS[match[2]], 6)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        if math.isnan(seconds):
            raise ValueError(
                f"must be a duration such as 30s, 500ms, 5m, 1h or a number of seconds, not {describe(value)}"
            )
        if not low <= seconds <= high:
            span = f"from {seconds_as_text(low)} to {seconds_as_text(high)}"
            raise ValueError(f"must be {span}, not {describe(value)}")
        if whole and not seconds.is_integer():
            raise ValueError(f"must be whole seconds, not {describe(value)}")
        return seconds

    return check


def parse_duration(text: str, low: float, high: float) -> float:
    """Seconds, of a text such as `30s`. ValueError in words."""
    return _duration(low, high)(text)


def size_as_text(size: int) -> str:
    """`65536` as `64KiB`."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _size(low: int, high: int) -> Callable[[object], int]:
    factors = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

    def check(value: object) -> int:
        size = value if type(value) is int else None
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            size = int(match[1]) * factors[match[2][:1]]
        if size is None:
            raise ValueError(f"must be a size such as 64KiB, 1MiB or a number of bytes, not {describe(value)}")
        if not low <= size <= high:
            raise ValueError(f"must be from {size_as_text(low)} to {size_as_text(high)}, not {describe(value)}")
        return size

    return check


def _cookie_name(value: object) -> str:
    """RFC 6265 section 4.1.1: a token. Names that ALB keeps for itself would be taken for ours."""
    name = _token(value)
    if re.fullmatch(r"AWSALB(APP|TG).*|AWSALBCORS", name):
        raise ValueError(f"{name} is the name of another of the load balancer's cookies: choose a name of your own")
    return name


def _statuses(value: object) -> tuple[int, ...]:
    values: list[object] = value if isinstance(value, list) else [value]
    statuses = dict.fromkeys(status for status in values if type(status) is int and status in {502, 503, 504})
    if len(statuses) < len(values):
        raise ValueError("must be a list of 502, 503 and 504, each at most once, or [] for none")
    return tuple(statuses)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        raise ValueError(f"must be text, not {describe(value)}: put it in quotes")
    raise ValueError(f"must be text, not {describe(value)}")


def _flag(value: object) -> bool:
    # In YAML 1.2 `no` is text. Where only true or false can be meant, what it means is plain all the same.
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(f"must be true or false, not {describe(value)}")


def _name(value: object) -> str:
    name = _text(value)
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"must be a name of letters, digits, dots, hyphens and underscores that begins with a letter or digit,"
            f" at most 128 of them, not {describe(name)}"
        )
    return name


def _host_name(value: object) -> str:
    """A DNS name of host-name labels (RFC 1123 section 2.1), in lower case, without the final dot."""
    name = _text(value).lower().removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(
            f"must be a host name: labels of letters, digits and inner hyphens, 1 to 63 each, not {describe(value)}"
        )
    return name


def _label(value: object) -> str:
    name = _text(value).lower()
    if not _LABEL.fullmatch(name):
        raise ValueError(
            f"must be 1 to 63 letters, digits and inner hyphens, as it becomes part of a name, not {describe(value)}"
        )
    return name


def _token(value: object) -> str:
    token = _text(value)
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"must be an HTTP token (letters, digits, hyphens), not {describe(token)}")
    return token


def _method(value: object) -> str:
    method = _text(value)
    if not re.fullmatch(r"[A-Z_-]{1,40}", method):
        raise ValueError(f"must be a method in capitals such as GET, not {describe(method)}")
    return method


def _address(value: object) -> str:
    text = _text(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"must be an IPv4 or IPv6 address such as 192.0.2.10, not {describe(text)}") from None


def _place(value: object) -> str:
    """An address, or the path of a unix socket: `unix:/run/app.sock` becomes /run/app.sock."""
    if not isinstance(value, str) or not value.startswith("unix:"):
        return _address(value)
    path = value.removeprefix("unix:")
    # The kernel's sun_path has room for 107 bytes and a null.
    if not re.fullmatch(r"(?:/[^/\x00-\x1f\x7f]+)+", path) or len(path.encode()) > 107:
        raise ValueError(
            f"must be an absolute path of at most 107 bytes such as unix:/run/app.sock, not {describe(value)}"
        )
    return path


def _cidr(value: object) -> Network:
    text = _text(value)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"must be a CIDR such as 10.0.0.0/16 or 2001:db8::/32, not {describe(text)}") from None
    one = text.partition("/")[0]
    raise ValueError(
        f"{text} has bits set behind its prefix: write {network} for the network, or {one} for the address"
    )


def _peer(value: object) -> Network | str:
    text = _text(value)
    if "/" in text or ":" in text or re.fullmatch(r"[0-9.]+", text):
        return _cidr(text)
    if not _NAME.fullmatch(text):
        raise ValueError(f"must be a CIDR such as 10.0.0.0/16 or the name of a security group, not {describe(text)}")
    return text


def _port_span(value: object) -> PortSpan:
    if value == "all":
        return 0, LAST_PORT
    if type(value) is int and 0 <= value <= LAST_PORT:
        return value, value
    if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
        low, high = int(match[1]), int(match[2] or match[1])
        if low <= high <= LAST_PORT:
            return low, high
        if high < low <= LAST_PORT:
            raise ValueError(f"the range runs backwards: write {high}-{low}")
    raise ValueError(f"must be a port, a range such as 1024-65535, or all, not {describe(value)}")


def _endpoint(default_port: int) -> Callable[[object], Endpoint]:
    def check(value: object) -> Endpoint:
        text = value if isinstance(value, str) else ""
        host, port = text, str(default_port)
        if text.startswith("["):
            host, closed, rest = text[1:].partition("]")
            if rest or not closed:
                port = rest[1:] if rest.startswith(":") else ""
        elif text.count(":") == 1:
            host, _, port = text.partition(":")
        try:
            address = str(ipaddress.ip_address(host))
        except ValueError:
            address = ""
        if not address or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= LAST_PORT):
            raise ValueError(
                f"must be an address and a port such as 127.0.0.1:{default_port} or [::1]:{default_port},"
                f" not {describe(value)}"
            )
        return address, int(port)

    return check


def _status_ranges(value: object) -> tuple[tuple[int, int], ...]:
    """ALB's matcher: `200`, `200-299`, `200,202,300-399`; for gRPC `0`, `0-99`. Which of both is judged elsewhere."""
    ranges: list[tuple[int, int]] = []
    for part in str(value).split(",") if isinstance(value, str) or type(value) is int else ():
        match = re.fullmatch(r"\s*([1-5][0-9][0-9]|[0-9]{1,2})(?:-([1-5][0-9][0-9]|[0-9]{1,2}))?\s*", part)
        if not match or int(match[1]) > int(match[2] or match[1]):
            ranges.clear()
            break
        ranges.append((int(match[1]), int(match[2] or match[1])))
    if not ranges:
        raise ValueError(f"must be status codes such as 200, 200-399 or 200,202, not {describe(value)}")
    return tuple(ranges)


def _hash_key(value: object) -> str:
    text = _text(value)
    kind, colon, name = text.partition(":")
    if text not in {"source", "path"} and not (kind in {"header", "cookie"} and colon and _TOKEN.fullmatch(name)):
        raise ValueError(f"must be source, path, header:NAME or cookie:NAME, not {describe(text)}")
    return text


def _check_port(value: object) -> int | None:
    return None if value == "traffic-port" else _whole(1, LAST_PORT)(value)


def _workers(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if type(value) is int and 1 <= value <= MOST_WORKERS:
        return value
    raise ValueError(f"must be auto, or a whole number from 1 to {MOST_WORKERS}, not {describe(value)}")


def _redirect_port(value: object) -> str:
    return "#{port}" if value == "#{port}" else str(_whole(1, LAST_PORT)(value))


def _url_path(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"/[\x21-\x7e]{0,1023}", text):
        raise ValueError(f"must be a path that begins with / and has no spaces, not {describe(text)}")
    return text


def listed(value: object) -> object:
    """A single value stands for a list of one; an empty list is a mistake."""
    if isinstance(value, dict):
        raise ValueError("must be a list of values, not a mapping")
    if value == []:
        raise ValueError("must not be empty: name at least one, or leave the key out")
    return value if isinstance(value, list) else [value]


def _san(value: object) -> str:
    """A name or address that a certificate vouches for; the first label may be `*`."""
    text = _text(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        wildcard = "*." if text.startswith("*.") else ""
        return wildcard + _host_name(text.removeprefix("*."))


def _path_pattern(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[/*?][\x21-\x7e]{0,1023}", text):
        raise ValueError(f"must be a path such as /api/* that begins with / or a wildcard, not {describe(text)}")
    return text


def _host_pattern(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9.*?_:\[\]-]{1,253}", text, re.ASCII):
        raise ValueError(f"must be a host name, * and ? are wildcards, not {describe(text)}")
    return text


def _header_pattern(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[\x20-\x7e]{1,1024}", text):
        raise ValueError(f"must be 1 to 1024 visible ASCII characters, not {describe(text)}")
    return text


def _query_pattern(value: object) -> str:
    text = str(value) if type(value) is int else _text(value)  # `page: 2` can mean nothing else
    if not re.fullmatch(r"[\x21-\x7e]{1,1024}", text) or set(text) & set("&#"):
        raise ValueError(
            f"must be 1 to 1024 visible ASCII characters without & and #, percent-encoded as sent, not {describe(text)}"
        )
    return text


def _query_name(value: object) -> str:
    name = _query_pattern(value)
    if "=" in name:
        raise ValueError(f"must be the name alone, without =, not {describe(name)}")
    return name


def _header_value(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,1022}[\x21-\x7e])?", text):
        raise ValueError(f"must be 1 to 1024 visible ASCII characters without spaces around them, not {describe(text)}")
    return text


def _regex(value: object) -> str:
    text = _text(value)
    try:
        Expression(text)
    except BadExpression as error:
        raise ValueError(str(error)) from None
    return text


def _replacement(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[\x21-\x7e]{0,1024}", text):
        raise ValueError(f"must be at most 1024 visible ASCII characters without spaces, not {describe(text)}")
    if re.search(r"\$(?![0-9$])", text):
        raise ValueError("has a $ that is neither $0 to $9 nor $$, which is a dollar sign")
    return text


def _schema(kind: str | list[str], **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, **more})


def whole(low: int, high: int) -> Any:
    """The pieces of `Annotated[int, *whole(1, 9)]`."""
    return PlainValidator(_whole(low, high)), _schema("integer", minimum=low, maximum=high)


def duration(low: float, high: float, *, whole_seconds: bool = False) -> Any:
    pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)?$"
    return (
        PlainValidator(_duration(low, high, whole=whole_seconds)),
        _schema(["string", "number"], pattern=pattern, minimum=low, maximum=high, examples=["30s", "500ms", "5m", 10]),
    )


def size(low: int, high: int) -> Any:
    return (
        PlainValidator(_size(low, high)),
        _schema(["string", "integer"], minimum=low, maximum=high, examples=["64KiB", "1MiB", 4096]),
    )


def one_or_more(example: str) -> Any:
    """The pieces of `Annotated[tuple[..., ...], *one_or_more("an example")]`."""
    return BeforeValidator(listed), _schema(
        ["array", "string"], items={"type": "string"}, minItems=1, examples=[[example]]
    )


def endpoint(default_port: int) -> Any:
    return PlainValidator(_endpoint(default_port)), _schema("string", examples=[f"127.0.0.1:{default_port}"])


Text = Annotated[str, PlainValidator(_text), _schema("string")]
Flag = Annotated[bool, PlainValidator(_flag), _schema("boolean")]
Name = Annotated[str, PlainValidator(_name), _schema("string", pattern=f"^{_NAME.pattern}$")]
HostName = Annotated[str, PlainValidator(_host_name), _schema("string", examples=["app.local"])]
Label = Annotated[str, PlainValidator(_label), _schema("string", maxLength=63)]
Token = Annotated[str, PlainValidator(_token), _schema("string")]
CookieName = Annotated[str, PlainValidator(_cookie_name), _schema("string")]
GatewayStatuses = Annotated[
    tuple[int, ...], PlainValidator(_statuses), _schema("array", items={"enum": [502, 503, 504]})
]
Address = Annotated[str, PlainValidator(_address), _schema("string", examples=["192.0.2.10", "2001:db8::10"])]
Place = Annotated[str, PlainValidator(_place), _schema("string", examples=["192.0.2.10", "unix:/run/app.sock"])]
Cidr = Annotated[Network, PlainValidator(_cidr), _schema("string", examples=["10.0.0.0/16"])]
Peer = Annotated[Network | str, PlainValidator(_peer), _schema("string", examples=["0.0.0.0/0", "web-sg"])]
Port = Annotated[int, *whole(1, LAST_PORT)]
PortRange = Annotated[
    PortSpan, PlainValidator(_port_span), _schema(["integer", "string"], examples=[443, "1024-65535", "all"])
]
CheckPort = Annotated[
    int | None, PlainValidator(_check_port), _schema(["integer", "string"], examples=[8080, "traffic-port"])
]
WorkerCount = Annotated[
    int | Literal["auto"], PlainValidator(_workers), _schema(["integer", "string"], examples=[1, "auto"])
]
RedirectPort = Annotated[str, PlainValidator(_redirect_port), _schema(["integer", "string"], examples=[443, "#{port}"])]
StatusRanges = Annotated[
    tuple[tuple[int, int], ...],
    PlainValidator(_status_ranges),
    _schema(["integer", "string"], examples=[200, "200-399", "200,202"]),
]
HashKeyText = Annotated[str, PlainValidator(_hash_key), _schema("string", examples=["source", "header:x-user"])]
UrlPath = Annotated[str, PlainValidator(_url_path), _schema("string", pattern="^/")]
PathPatterns = Annotated[tuple[Annotated[str, PlainValidator(_path_pattern)], ...], *one_or_more("/api/*")]
HostPatterns = Annotated[tuple[Annotated[str, PlainValidator(_host_pattern)], ...], *one_or_more("*.example.org")]
Methods = Annotated[tuple[Annotated[str, PlainValidator(_method)], ...], *one_or_more("GET")]
HeaderPatterns = Annotated[tuple[Annotated[str, PlainValidator(_header_pattern)], ...], *one_or_more("yes")]
HeaderValue = Annotated[str, PlainValidator(_header_value), _schema("string", maxLength=1024)]
HeaderValues = Annotated[tuple[HeaderValue, ...], *one_or_more("yes")]
HeaderNames = Annotated[tuple[Token, ...], *one_or_more("x-debug")]
QueryName = Annotated[str, PlainValidator(_query_name), _schema("string")]
QueryPatterns = Annotated[tuple[Annotated[str, PlainValidator(_query_pattern)], ...], *one_or_more("v1")]
SourceCidrs = Annotated[tuple[Cidr, ...], *one_or_more("203.0.113.0/24")]
Regex = Annotated[str, PlainValidator(_regex), _schema("string", maxLength=1024, examples=["^/api/v1/(.*)$"])]
Replacement = Annotated[str, PlainValidator(_replacement), _schema("string", maxLength=1024, examples=["/v1/$1"])]
SelfSignedNames = Annotated[tuple[Annotated[str, PlainValidator(_san)], ...], *one_or_more("localhost")]
