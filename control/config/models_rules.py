"""When a rule applies, and what it changes in what goes through, as types."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from .model_base import Model
from .scalars import (
    HeaderNames,
    HeaderPatterns,
    HeaderValue,
    HeaderValues,
    HostPatterns,
    Methods,
    PathPatterns,
    QueryName,
    QueryPatterns,
    Regex,
    Replacement,
    SourceCidrs,
    Token,
    listed,
)


def _alternatives(value: object) -> object:
    """A single mapping stands for a list of one."""
    if isinstance(value, str):
        raise ValueError("must be a mapping of names to values, such as {version: v1}, or a list of such")
    alternatives = listed([value] if isinstance(value, dict) else value)
    if isinstance(alternatives, list) and {} in alternatives:
        raise ValueError("must name at least one parameter: an empty mapping would hold for every request")
    return alternatives


class Conditions(Model):
    """All kinds that are given must hold; inside a kind any value suffices. `*` and `?` are wildcards."""

    path: PathPatterns | None = None
    """Compared with case."""
    host: HostPatterns | None = None
    """Compared without case."""
    method: Methods | None = None
    """Compared with case: GET, POST, ..."""
    header: dict[Token, HeaderPatterns] | None = None
    """Header name to values; compared without case."""
    query: Annotated[tuple[dict[QueryName, QueryPatterns], ...], BeforeValidator(_alternatives)] | None = None
    """Parameter name to values, all of which must be there; or a list of such, of which one must hold. Compared
    without case, and as it was sent: `%2F` is not `/`. The name `*` is any."""
    source_ip: SourceCidrs | None = None
    """CIDRs. The address that the connection comes from, never what a header says."""


class Rewrite(Model):
    regex: Regex
    """What to look for. The usual syntax, without look-around and back-references."""
    replace: Replacement
    """What to put in place of the first that is found; `$1` to `$9` are the groups, `$0` all of it, `$$` is `$`."""


class Transforms(Model):
    """What targets get instead of what the client asked for; nothing found, nothing changed. ALB's transforms."""

    url_rewrite: Rewrite | None = None
    """Path and query."""
    host_header_rewrite: Rewrite | None = None
    """The host; its port stays."""


class HeaderChanges(Model):
    """First remove, then set, then add."""

    remove: HeaderNames = ()
    """Names of which no field stays."""
    set: dict[Token, HeaderValue] = Field(default_factory=dict)
    """Name to value, in place of all that is there."""
    add: dict[Token, HeaderValues] = Field(default_factory=dict)
    """Name to one or more values, beside what is there."""
