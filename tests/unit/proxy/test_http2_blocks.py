"""Header blocks remembered: what is the same is read once, and what only looks the same is not mistaken for it."""

from __future__ import annotations

from itertools import count

import hpack
import pytest

from penstock.proxy.hpack import EMPTY, Field, ListTooLarge, Table
from penstock.proxy.http2 import Malformed
from penstock.proxy.http2_blocks import MAX_BLOCKS, Blocks, Reading

MAX_LIST = 65536
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"example.org")]
_keys = count()


def key() -> bytes:
    return b"%d" % next(_keys)


class Connection:
    """A client that writes as browsers do: no path is put into the table."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.encoder = hpack.Encoder()
        self.table: Table = EMPTY
        self.remembered = False  # the last block

    def ask(self, path: bytes, *more: Field, indexed: bool = False) -> tuple[Reading, bytes]:
        block = self.encoder.encode(GET)
        if indexed:
            block += self.encoder.encode([(b":path", path)])
        else:
            assert len(path) < 127
            block += b"\x04" + bytes((len(path),)) + path
        return self.read(block + self.encoder.encode(more))

    def read(self, block: bytes) -> tuple[Reading, bytes]:
        known = self.blocks.known.get((self.table.number, block))
        self.remembered = known is not None
        reading, uri = (known, known.uri) if known else self.blocks.read(block, self.table, MAX_LIST, key)
        self.table = reading.table
        return reading, uri


@pytest.mark.parametrize("indexed", [False, True])
def test_requests_that_differ_in_their_path_are_one(indexed: bool) -> None:
    client = Connection(Blocks(ended=True))
    readings = [client.ask(b"/%d?q" % number, (b"accept", b"*/*"), indexed=indexed) for number in range(6)]
    assert [uri for _, uri in readings] == [b"/%d?q" % number for number in range(6)]
    requests = [reading.request for reading, _ in readings]
    assert requests[2] is requests[5]
    assert requests[5] is not None
    assert requests[5].block == b"Host: example.org\r\naccept: */*\r\n"


def test_a_block_that_is_repeated_is_one_look() -> None:
    client = Connection(Blocks(ended=True))
    for _ in range(5):
        reading, uri = client.ask(b"/", indexed=True)
        assert uri == b"/"
    assert client.remembered
    assert reading.table is client.table


def test_clients_that_begin_alike_share_their_tables() -> None:
    blocks = Blocks(ended=True)
    clients = [Connection(blocks) for _ in range(4)]
    for client in clients:
        client.ask(b"/", (b"user-agent", b"same"))
    assert clients[2].table is clients[3].table is not EMPTY


def test_the_same_bytes_after_other_blocks_mean_something_else() -> None:
    blocks = Blocks(ended=True)
    clients = {name: Connection(blocks) for name in (b"one", b"two")}
    for _ in range(6):
        for name, client in clients.items():
            reading, _ = client.ask(b"/a", (b"cookie", b"user=" + name))
            assert reading.request is not None
            assert reading.request.block.endswith(b"Cookie: user=" + name + b"\r\n")
    same = b"\x82\x87\x84\xbf\xbe"  # GET, https, /, and the two entries of the table
    read = {name: client.read(same)[0].request for name, client in clients.items()}
    for name, request in read.items():
        assert request is not None
        assert request.block.endswith(b"Cookie: user=" + name + b"\r\n")


def test_with_and_without_a_body_are_apart() -> None:
    requests = [Connection(Blocks(ended=ended)).ask(b"/")[0].request for ended in (True, False)]
    blocks = [request.block for request in requests if request is not None]
    assert blocks == [b"Host: example.org\r\n", b"Host: example.org\r\nTransfer-Encoding: chunked\r\n"]


@pytest.mark.parametrize("path", [b"*", b"a", b"/a b", b"/#a", b"http://example.org/", b"/\xe9"])
def test_a_path_that_is_none_is_refused_each_time_and_by_itself(path: bytes) -> None:
    client = Connection(Blocks(ended=True))
    for _ in range(3):
        client.ask(b"/")
    for _ in range(3):
        reading, _ = client.ask(path, (b"x-new", b"1"))
        assert reading.refusal is not None
        assert reading.request is None
        reading, uri = client.ask(b"/next", (b"x-new", b"1"))
        assert uri == b"/next", "the table was read on"
        assert reading.request is not None
        assert reading.request.block.endswith(b"x-new: 1\r\n")


def test_a_second_path_is_malformed_wherever_it_stands() -> None:
    client = Connection(Blocks(ended=True))
    for _ in range(3):
        client.ask(b"/")
    for block in (b"\x82\x87\x04\x02/a\x04\x02/b\xbe", b"\x82\x87\x84\x04\x02/b\xbe"):
        reading, _ = client.read(block)
        assert isinstance(reading.refusal, Malformed)


def test_each_websocket_has_a_key_of_its_own() -> None:
    blocks = Blocks(ended=False)
    said = set()
    for _ in range(4):
        encoder = hpack.Encoder()
        fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:], (b":path", b"/")]
        request = blocks.read(encoder.encode(fields), EMPTY, MAX_LIST, key)[0].request
        assert request is not None
        assert request.websocket
        said.add(request.block)
    assert len(said) == 4


def test_a_long_path_counts_in_its_list() -> None:
    blocks = Blocks(ended=True)
    block = hpack.Encoder().encode(GET) + b"\x04\x64/" + b"a" * 99
    assert blocks.read(block, EMPTY, 280, key)[1] == b"/" + b"a" * 99
    with pytest.raises(ListTooLarge):
        blocks.read(block, EMPTY, 260, key)


def test_what_never_repeats_drives_nothing_out_and_does_not_grow() -> None:
    blocks = Blocks(ended=True)
    usual = Connection(blocks)
    for _ in range(4):
        usual.ask(b"/", indexed=True)
    assert usual.remembered
    for number in range(MAX_BLOCKS + 10):
        Connection(blocks).ask(b"/", (b"x-trace", b"%d" % number))
    usual.ask(b"/", indexed=True)
    assert usual.remembered
    for _ in range(2):
        for number in range(MAX_BLOCKS + 10):
            Connection(blocks).ask(b"/", (b"x-trace", b"%d" % number))
    assert len(blocks.known) <= MAX_BLOCKS
