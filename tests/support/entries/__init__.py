"""Every pure entry that takes bytes from strangers, and what must hold of it whatever they are.

One table for all fuzzing: hypothesis, the replay of the corpus and atheris go through the same rows. A check says
whether the bytes were taken for what they claim to be, and raises AssertionError for a promise that is broken; any
other exception is a fault too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import http, names, texts, wires

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


@dataclass(frozen=True, slots=True)
class Entry:
    """`words` are what inputs are made of: with them a fuzzer gets past the first look at a message."""

    check: Callable[[bytes], bool]
    words: tuple[bytes, ...]


ENTRIES: dict[str, Entry] = {
    "request": Entry(http.request, http.REQUEST_WORDS),
    "response": Entry(http.response, http.RESPONSE_WORDS),
    "chunked": Entry(http.chunked, http.CHUNK_WORDS),
    "http2-request": Entry(http.http2_request, http.HTTP2_WORDS),
    "http2-response": Entry(http.http2_response, http.HTTP2_WORDS),
    "proxy-header": Entry(wires.proxy_header, wires.PROXY_WORDS),
    "grpc-health": Entry(wires.grpc_health, wires.GRPC_WORDS),
    "dns-query": Entry(wires.dns_query, wires.DNS_WORDS),
    "dns-response": Entry(wires.dns_response, wires.DNS_WORDS),
    "dns-options": Entry(names.options, names.OPTION_WORDS),
    "dns-doh": Entry(names.doh, names.DOH_WORDS),
    "dns-transfer": Entry(names.transfer, names.TRANSFER_WORDS),
    "dns-alias": Entry(names.alias, names.ALIAS_WORDS),
    "cookies": Entry(texts.cookies, texts.COOKIE_WORDS),
    "trace-fields": Entry(texts.trace_fields, texts.TRACE_WORDS),
    "rules": Entry(texts.rules, texts.RULE_WORDS),
    "rewrite": Entry(texts.rewrite, texts.REWRITE_WORDS),
    "yaml": Entry(texts.yaml, texts.YAML_WORDS),
}
