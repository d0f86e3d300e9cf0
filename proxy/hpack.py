"""Header compression of HTTP/2 (RFC 7541): blocks to fields and back.

A decoder's table is a value that never changes: a block read with one table gives fields and the table for the next
block. So what a block meant can be remembered together with what it did to the table, and connections whose clients
began alike share one table. What we write uses no table, and means the same on every connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from . import huffman

Field = tuple[bytes, bytes]

TABLE_SIZE = 4096  # SETTINGS_HEADER_TABLE_SIZE, which we leave at its default (RFC 9113 6.5.2)
ENTRY = 32  # what an entry counts for beside its name and value (RFC 7541 4.1), and a field in a list (RFC 9113 6.5.2)
MAX_SHIFT = 21  # integers of 28 bits and more are no index, length or size of ours
MAX_SIZE_UPDATES = 2  # RFC 7541 4.2: the smallest size and the final one

# RFC 7541 Appendix A. Index 0 is not used.
STATIC: tuple[Field, ...] = (
    (b"", b""),
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
_FIRST_DYNAMIC = len(STATIC)
_STATIC_FIELDS: dict[Field, int] = {field: index for index, field in enumerate(STATIC) if index}
_STATIC_NAMES: dict[bytes, int] = {field[0]: index for index, field in reversed(tuple(enumerate(STATIC))) if index}

# RFC 7541 7.1.3: values worth guessing, which whoever passes them on must not put into a table either.
_NEVER_INDEXED = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))

MAX_PSEUDO = 5  # pseudo-header fields of a request, which come first
_PATH_LITERALS = frozenset((0x04, 0x14, 0x05, 0x15))  # 6.2.2, 6.2.3: not added to the table, named as 4 and 5 are


class BadBlock(Exception):
    """A block that cannot be read, so nothing that follows on its connection can (RFC 9113 4.3)."""


class ListTooLarge(Exception):
    """A block of few bytes that would become a long list."""


_numbers = count(1)


class Table:
    """The dynamic table between two blocks. `entries` begin with the newest; `number` is this table's alone."""

    __slots__ = ("entries", "limit", "number", "size")

    def __init__(self, entries: tuple[Field, ...], size: int, limit: int) -> None:
        self.entries = entries
        self.size = size
        self.limit = limit
        self.number = next(_numbers)


EMPTY = Table((), 0, TABLE_SIZE)


def decode(block: bytes, table: Table, max_list: int) -> tuple[list[Field], int, Table]:
    """The fields of a block, the size of their list, and the table for the next block.

    Raises BadBlock, or ListTooLarge when the list would be larger than `max_list`; either ends the connection.
    """
    try:
        return _decode(block, table, max_list)
    except (IndexError, huffman.BadCode):  # an index of no entry, or the block ends inside a field
        raise BadBlock from None


def _decode(block: bytes, table: Table, max_list: int) -> tuple[list[Field], int, Table]:
    fields: list[Field] = []
    entries: list[Field] | tuple[Field, ...] = table.entries
    changed: list[Field] | None = None
    size, limit = table.size, table.limit
    total = updates = position = 0
    end = len(block)
    while position < end:
        byte = block[position]
        if byte >= 0x80:  # 6.1: an indexed field
            index = byte & 0x7F
            position += 1
            if index == 0x7F:
                index, position = _integer(block, position, index)
            field = _entry(entries, index)
        elif byte >= 0x40 or byte < 0x20:  # 6.2: a literal, added to the table or not
            mask = 0x3F if byte >= 0x40 else 0x0F
            index = byte & mask
            position += 1
            if index == mask:
                index, position = _integer(block, position, mask)
            if index:
                name = _entry(entries, index)[0]
            else:
                name, position = _string(block, position)
            value, position = _string(block, position)
            field = (name, value)
            if byte >= 0x40:
                if changed is None:
                    entries = changed = list(entries)
                size += len(name) + len(value) + ENTRY
                changed.insert(0, field)
                while size > limit:  # 4.4: an entry that is larger than the table empties it, and is no error
                    old = changed.pop()
                    size -= len(old[0]) + len(old[1]) + ENTRY
        else:  # 6.3: the table's size, which is said before the first field
            updates += 1
            if fields or updates > MAX_SIZE_UPDATES:
                raise BadBlock
            limit = byte & 0x1F
            position += 1
            if limit == 0x1F:
                limit, position = _integer(block, position, limit)
            if limit > TABLE_SIZE:
                raise BadBlock
            entries = changed = list(entries)
            while size > limit:
                old = changed.pop()
                size -= len(old[0]) + len(old[1]) + ENTRY
            continue
        total += len(field[0]) + len(field[1]) + ENTRY
        if total > max_list:
            raise ListTooLarge
        fields.append(field)
    return fields, total, table if changed is None else Table(tuple(changed), size, limit)


def _entry(entries: list[Field] | tuple[Field, ...], index: int) -> Field:
    if index >= _FIRST_DYNAMIC:
        return entries[index - _FIRST_DYNAMIC]
    if not index:
        raise BadBlock
    return STATIC[index]


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    """What follows a prefix that is all ones, which were worth `value` (5.1)."""
    for shift in range(0, MAX_SHIFT + 1, 7):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise BadBlock


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """5.2."""
    first = block[position]
    length = first & 0x7F
    position += 1
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    if end > len(block):
        raise BadBlock
    text = block[position:end]
    return (huffman.decode(text) if first >= 0x80 else text), end


def path_literal(block: bytes) -> tuple[bytes, bytes]:
    """The block with `:path: /` where it says another path, and that path; empty if the path does not stand alone.

    Browsers and nghttp2 never put paths into the table, so a block with its path taken out repeats itself. Raises
    BadBlock where `decode` would.
    """
    position = 0
    try:
        while 0x80 <= block[position] < 0xFF and position < MAX_PSEUDO:
            position += 1
        if block[position] not in _PATH_LITERALS:
            return block, b""
        length = block[position + 1]
        if length & 0x7F == 0x7F:
            path, end = _string(block, position + 1)
        else:
            end = position + 2 + (length & 0x7F)
            path = block[position + 2 : end]
            if end > len(block):
                raise BadBlock
            if length >= 0x80:
                path = huffman.decode(path)
    except IndexError:
        return block, b""
    except huffman.BadCode:
        raise BadBlock from None
    return block[:position] + b"\x84" + block[end:], path


def encode(fields: Iterable[Field]) -> bytes:
    """A block that neither uses a dynamic table nor adds to it."""
    parts: list[bytes] = []
    for field in fields:
        index = _STATIC_FIELDS.get(field)
        if index is not None:
            parts.append(bytes((0x80 | index,)))
            continue
        name, value = field
        kind = 0x10 if name in _NEVER_INDEXED else 0x00
        index = _STATIC_NAMES.get(name, 0)
        parts.append(_prefixed(kind, 0x0F, index))
        if not index:
            parts.append(_coded(name))
        parts.append(_coded(value))
    return b"".join(parts)


def _coded(text: bytes) -> bytes:
    code = huffman.encode(text)
    if len(code) < len(text):
        return _prefixed(0x80, 0x7F, len(code)) + code
    return _prefixed(0x00, 0x7F, len(text)) + text


def _prefixed(kind: int, mask: int, value: int) -> bytes:
    if value < mask:
        return bytes((kind | value,))
    out = bytearray((kind | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
