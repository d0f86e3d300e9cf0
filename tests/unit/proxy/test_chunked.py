"""Chunked bodies against h11's reader, whole and cut anywhere."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.proxy.chunked import ChunkedReader, ChunkLimits, wrap
from penstock.proxy.http_fields import BadMessage


def decoded(body: bytes) -> bytes:
    """h11's reading of a chunked body, as the oracle."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    content = b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Data):
            content += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return content
        elif event is h11.NEED_DATA:
            raise AssertionError("not complete")


extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b;c"', b" ; a=b"])
chunks = st.lists(st.tuples(st.binary(min_size=1, max_size=40), extensions), max_size=6)
trailers = st.sampled_from([b"", b"X-T: 1\r\n", b"A: 1\r\nB: 2\r\n"])


def render(pieces: list[tuple[bytes, bytes]], trailer: bytes) -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in pieces)
    return body + b"0\r\n" + trailer + b"\r\n"


@given(chunks, trailers, st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_same_content_however_it_is_cut(pieces: list[tuple[bytes, bytes]], trailer: bytes, cuts: list[int]) -> None:
    content = b"".join(data for data, _ in pieces)
    body = render(pieces, trailer) + b"GET /next"
    through, unwrapped = ChunkedReader(), ChunkedReader(unwrap=True)
    forwarded = plain = b""
    position = turn = 0
    while not through.done:
        step = cuts[turn % len(cuts)]
        forwarded += through.feed(body[position : position + step])
        plain += unwrapped.feed(body[position : position + step])
        position += step
        turn += 1
    assert decoded(forwarded) == content
    assert plain == content
    assert unwrapped.done
    assert through.rest + body[position:] == b"GET /next"
    assert through.content == len(content)
    assert b";" not in forwarded.replace(content, b"") or b";" in content


@given(st.binary(max_size=80))
def test_never_anything_but_bad_message(body: bytes) -> None:
    reader = ChunkedReader()
    try:
        forwarded = reader.feed(body)
    except BadMessage as bad:
        assert bad.status == 400
    else:
        assert len(forwarded) <= len(body) + 5


def test_plain_bytes_pass_without_a_copy() -> None:
    data = wrap(b"x" * 70000)
    assert ChunkedReader().feed(data) is data


@pytest.mark.parametrize("line", [b"F" * 16, b"8000000000000000"])
def test_a_chunk_larger_than_any_length_is_refused(line: bytes) -> None:
    with pytest.raises(BadMessage):
        ChunkedReader().feed(line + b"\r\n")


def test_endless_size_line_is_refused() -> None:
    reader = ChunkedReader()
    with pytest.raises(BadMessage):
        for _ in range(100):
            reader.feed(b"0" * 10)
    with pytest.raises(BadMessage):
        ChunkedReader().feed(b"5;" + b"a" * 400 + b"\r\n")


@pytest.mark.parametrize(("field", "reason"), [(b"a" * 1000, "trailer_too_long"), (b"", "too_many_trailer_fields")])
def test_endless_trailers_are_refused(field: bytes, reason: str) -> None:
    reader = ChunkedReader()
    reader.feed(b"0\r\n")
    with pytest.raises(BadMessage, match=reason):
        for _ in range(1000):
            reader.feed(b"X: " + field + b"\r\n")


def test_what_stands_around_the_content_has_limits() -> None:
    limits = ChunkLimits(extension=4, trailer=30, trailer_fields=2)
    for data, reason in [
        (b"1;abc\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", ""),
        (b"1;abcdefghijklmnopqrstuvwxyz\r\n", "chunk_extension_too_long"),
        (b"1 ;abcdefghijklmnopqrstuvwxyz", "chunk_extension_too_long"),
        (b"abcdefghijklmnopqrstuvwxyz", "bad_chunk"),
        (b"0\r\nX: 1\r\nX: 2\r\nX: 3\r\n", "too_many_trailer_fields"),
        (b"0\r\nX: 0123456789012345678901234567\r\n", "trailer_too_long"),
    ]:
        reader = ChunkedReader(limits)
        if not reason:
            reader.feed(data)
            assert reader.done
            continue
        with pytest.raises(BadMessage, match=f"400 {reason}$"):
            reader.feed(data)
