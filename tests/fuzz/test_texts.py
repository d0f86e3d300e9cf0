"""The pure entries that take text from strangers or from files: patterns, log lines, DNS packets, YAML."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.config import ConfigurationError, load_text
from penstock.dns.wire import Question, Rejection, read_query, read_response
from penstock.proxy.patterns import AnyOf, wildcard
from support.loaded import NOW

CORPUS = Path(__file__).parent / "corpus"
QUICK = settings(max_examples=150, deadline=None, derandomize=True)
SMALL = st.lists(st.sampled_from([b"a", b"b", b".", b"*", b"?", b"\n", b"\xff", b"["]), max_size=8).map(b"".join)


def naive(pattern: bytes, text: bytes) -> bool:
    parts = {ord("*"): b".*", ord("?"): b"."}
    return re.fullmatch(b"".join(parts.get(c, re.escape(bytes([c]))) for c in pattern), text, re.DOTALL) is not None


@QUICK
@given(SMALL, SMALL)
def test_a_wildcard_fits_what_the_naive_expression_fits(pattern: bytes, text: bytes) -> None:
    assert bool(wildcard(pattern)(text)) == naive(pattern, text)


@QUICK
@given(st.lists(SMALL, max_size=4), SMALL)
def test_several_patterns_fit_what_one_of_them_fits(patterns: list[bytes], text: bytes) -> None:
    assert AnyOf(patterns).fits(text) == any(naive(pattern, text) for pattern in patterns)


@QUICK
@given(st.binary(max_size=64))
def test_a_packet_is_a_question_or_rejected_or_dropped(packet: bytes) -> None:
    """The gate never raises, and what it takes for a question it can say back byte for byte."""
    question = read_query(packet)
    if isinstance(question, Question):
        assert packet[12 : 12 + len(question.section)] == question.section
    else:
        assert isinstance(question, Rejection)
    read_response(packet, 0x1234, b"\x01a\x00\x00\x01\x00\x01")


@pytest.mark.parametrize("file", sorted((CORPUS / "dns").iterdir()), ids=lambda file: file.name)
def test_dns_corpus(file: Path) -> None:
    taken = isinstance(read_query(file.read_bytes()), Question)
    assert taken != file.name.startswith("refused-")


@pytest.mark.parametrize("file", sorted((CORPUS / "yaml").iterdir()), ids=lambda file: file.name)
def test_yaml_corpus(file: Path) -> None:
    """Each is refused with a place and a sentence, never with a traceback, in no time."""
    with pytest.raises(ConfigurationError) as refused:
        load_text(file.read_text(), file.name, directory=Path("/nowhere"), now=NOW)
    assert all(mistake.line >= 1 and mistake.column >= 1 and mistake.message for mistake in refused.value.mistakes)
    json.dumps([mistake.message for mistake in refused.value.mistakes])
