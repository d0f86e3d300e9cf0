"""Header blocks against RFC 7541's own examples, and next to the library `hpack`, which is an oracle here."""

from __future__ import annotations

import hpack as library
import pytest
from hpack.huffman_table import decode_huffman
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy import huffman
from penstock.proxy.hpack import EMPTY, BadBlock, Field, ListTooLarge, Table, decode, encode, path_literal

MAX_LIST = 65536
QUICK = settings(max_examples=200, deadline=None, derandomize=True)

REQUESTS: list[list[Field]] = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [
        (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]  # fmt: skip
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
ANSWERS: list[list[Field]] = [
    [
        (b":status", b"302"), (b"cache-control", b"private"), (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"307"), (b"cache-control", b"private"), (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"200"), (b"cache-control", b"private"), (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        (b"location", b"https://www.example.com"), (b"content-encoding", b"gzip"), (b"set-cookie", COOKIE),
    ],
]  # fmt: skip

# Appendix C.3 to C.6: the limit of the table, the blocks one after the other, what each says, and the table's size.
EXAMPLES: dict[str, tuple[int, list[str], list[list[Field]], list[int]]] = {
    "C.3 requests": (
        4096,
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        REQUESTS,
        [57, 110, 164],
    ),
    "C.4 requests with Huffman code": (
        4096,
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        REQUESTS,
        [57, 110, 164],
    ),
    "C.5 answers, with a table of 256": (
        256,
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a"
            "2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b4851"
            "4b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        ],
        ANSWERS,
        [222, 222, 215],
    ),
    "C.6 answers with Huffman code": (
        256,
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43"
            "d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27"
            "087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        ANSWERS,
        [222, 222, 215],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_appendix_c(name: str) -> None:
    limit, blocks, lists, sizes = EXAMPLES[name]
    table = Table((), 0, limit)
    for block, expected, size in zip(blocks, lists, sizes, strict=True):
        fields, _, table = decode(bytes.fromhex(block), table, MAX_LIST)
        assert fields == expected
        assert table.size == size == sum(len(name) + len(value) + 32 for name, value in table.entries)


@pytest.mark.parametrize(
    ("block", "field", "kept"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", (b"custom-key", b"custom-header"), 1),  # C.2.1
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0),  # C.2.2
        ("100870617373776f726406736563726574", (b"password", b"secret"), 0),  # C.2.3
        ("82", (b":method", b"GET"), 0),  # C.2.4
    ],
)
def test_each_representation(block: str, field: Field, kept: int) -> None:
    fields, size, table = decode(bytes.fromhex(block), EMPTY, MAX_LIST)
    assert fields == [field]
    assert size == len(field[0]) + len(field[1]) + 32
    assert len(table.entries) == kept


def test_integers_of_several_bytes() -> None:
    """C.1.2: 1337 with a prefix of five bits, here as the size of a table."""
    assert decode(bytes.fromhex("3f9a0a"), EMPTY, MAX_LIST)[2].limit == 1337


WRONG = {
    "index 0": "80",
    "index of no entry": "be",
    "index far beyond": "ffffff7f",
    "an integer without end": "ff" + "80" * 20,
    "an integer of 29 bits": "ff8080808001",
    "name of no entry": "7f00",
    "string longer than the block": "00056162",
    "no value": "000161",
    "no name": "40",
    "Huffman: padding of eight bits": "0082ffff00",
    "Huffman: padding that is not of ones": "00811801",
    "Huffman: the end symbol": "0084ffffffff00",
    "table larger than allowed": "3fe21f",
    "table's size after a field": "8220",
    "table's size three times": "202020",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_block_that_cannot_be_read(name: str) -> None:
    with pytest.raises(BadBlock):
        decode(bytes.fromhex(WRONG[name]), EMPTY, MAX_LIST)


def test_few_bytes_that_would_become_a_long_list() -> None:
    _, _, table = decode(b"\x40\x01x\x7f\xa1\x1e" + b"a" * 4000, EMPTY, MAX_LIST)
    with pytest.raises(ListTooLarge):
        decode(b"\xbe" * 20, table, MAX_LIST)


def test_an_entry_larger_than_the_table_empties_it() -> None:
    _, _, table = decode(encode([]) + b"\x40\x01a\x01b", EMPTY, MAX_LIST)
    assert table.entries == ((b"a", b"b"),)
    fields, _, after = decode(b"\x40\x01x\x7f\xf1\x1f" + b"a" * 4208, table, MAX_LIST)
    assert len(fields[0][1]) == 4208
    assert (after.entries, after.size) == ((), 0)
    assert table.entries == ((b"a", b"b"),), "a table is a value: what came before it has not changed"


def test_a_path_is_taken_out_of_its_block() -> None:
    block = library.Encoder().encode([(b":method", b"GET")]) + b"\x04\x85\x61\x09\xf5\x41\x57" + b"\x86\x41\x01a"
    assert path_literal(block) == (b"\x82\x84\x86\x41\x01a", huffman.decode(b"\x61\x09\xf5\x41\x57"))
    long = b"\x04\x7f\x49" + b"/" * 200
    assert path_literal(long + b"\x82") == (b"\x84\x82", b"/" * 200)
    for alone in (b"\x82\x44\x02/a", b"\x82\x00\x01a\x01b\x04\x02/a", b"", b"\x82\x82", b"\x04", b"\xff\x00\x04\x02/a"):
        assert path_literal(alone) == (alone, b"")
    with pytest.raises(BadBlock):
        path_literal(b"\x82\x04\x09/a")


NAMES = st.sampled_from([b":path", b":authority", b"cookie", b"accept", b"x-a", b"authorization", b"X", b""])
VALUES = st.binary(max_size=40) | st.sampled_from([b"/", b"", b"a" * 200, b"gzip, deflate", b"a" * 3000])
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=10)


@QUICK
@given(st.lists(st.tuples(LISTS, st.booleans(), st.none() | st.integers(0, 4096)), max_size=6))
def test_what_the_library_writes_is_read(blocks: list[tuple[list[Field], bool, int | None]]) -> None:
    encoder, table = library.Encoder(), EMPTY
    for fields, coded, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        read, _, table = decode(encoder.encode(fields, huffman=coded), table, MAX_LIST)
        assert read == fields
        assert list(table.entries) == list(encoder.header_table.dynamic_entries)
        assert table.limit == encoder.header_table_size


@QUICK
@given(LISTS)
def test_what_we_write_is_read_by_the_library(fields: list[Field]) -> None:
    decoder = library.Decoder()
    block = encode(fields)
    assert [tuple(field) for field in decoder.decode(block, raw=True)] == fields
    assert not decoder.header_table.dynamic_entries
    for field in decoder.decode(block, raw=True):
        if field[0] in (b"cookie", b"authorization") and field[1]:
            assert not field.indexable


@QUICK
@given(
    st.lists(st.tuples(LISTS, st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=3)), max_size=4)
)
def test_what_we_read_the_library_reads_likewise(
    blocks: list[tuple[list[Field], list[tuple[int, int]]]],
) -> None:
    """Blocks with bytes changed: no leniency. (We refuse more: long integers, and a third size of the table.)"""
    encoder, decoder, table = library.Encoder(), library.Decoder(MAX_LIST), EMPTY
    for fields, changes in blocks:
        block = bytearray(encoder.encode(fields))
        for place, byte in changes:
            if block:
                block[place % len(block)] = byte
        try:
            read, _, table = decode(bytes(block), table, MAX_LIST)
        except (BadBlock, ListTooLarge):
            return
        assert [tuple(field) for field in decoder.decode(bytes(block), raw=True)] == read
        assert list(table.entries) == list(decoder.header_table.dynamic_entries)


@QUICK
@given(st.binary(max_size=60))
def test_huffman(text: bytes) -> None:
    assert huffman.decode(huffman.encode(text)) == text == decode_huffman(huffman.encode(text))
    try:
        read = huffman.decode(text)
    except huffman.BadCode:
        return
    assert decode_huffman(text) == read
