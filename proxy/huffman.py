"""The string code of HPACK (RFC 7541 5.2 and Appendix B).

Text is read a byte at a time, not a bit at a time: what a byte of code makes of a place in the code's tree, which
bytes of text it completes and at which place it ends, is learned when it is first met. There are 256 places and so
at most 65,536 such steps, however long the process lives.
"""

from __future__ import annotations

# Symbols by the length of their code. The code is canonical: codes of one length are consecutive numbers, in the
# order of the symbols, and so the lengths say it all.
_BY_LENGTH = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e"
    b"\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15"
    b"\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9",
    30: b"\n\r\x16",
}
_END = 256  # the symbol that fills the last byte; as text it is an error


class BadCode(ValueError):
    """Not the code of any text."""


def _code() -> list[str]:
    """Each byte's code as binary digits."""
    digits = [""] * 256
    number, before = 0, 5
    for length, symbols in _BY_LENGTH.items():
        number <<= length - before
        before = length
        for symbol in symbols:
            digits[symbol] = f"{number:0{length}b}"
            number += 1
    return digits


_CODE = _code()
_END_CODE = "1" * 30


def _tree() -> list[list[int]]:
    """Places with their two ways on: another place, or ~symbol. Place 0 is where every symbol begins."""
    places = [[0, 0]]
    for symbol, digits in enumerate([*_CODE, _END_CODE]):
        place = 0
        for digit in digits[:-1]:
            if not places[place][digit == "1"]:
                places[place][digit == "1"] = len(places)
                places.append([0, 0])
            place = places[place][digit == "1"]
        places[place][digits[-1] == "1"] = ~symbol
    return places


_TREE = _tree()


def _padding() -> frozenset[int]:
    """Where a text may end: less than a byte into the code of _END (RFC 7541 5.2)."""
    place, found = 0, {0}
    for _ in range(7):
        place = _TREE[place][1]
        found.add(place << 8)
    return frozenset(found)


_PADDING = _padding()
# (place << 8 | byte) to (next place << 8, the symbols it completes); shifted, so that the next byte only adds to it
_steps: dict[int, tuple[int, bytes]] = {}


def _learn(place: int, byte: int) -> tuple[int, bytes]:
    at, out = place >> 8, bytearray()
    for shift in range(7, -1, -1):
        at = _TREE[at][byte >> shift & 1]
        if at < 0:
            if ~at == _END:
                raise BadCode("the end symbol is no text")
            out.append(~at)
            at = 0
    step = _steps[place | byte] = at << 8, bytes(out)
    return step


def decode(code: bytes) -> bytes:
    """Raises BadCode."""
    steps = _steps
    place = 0
    text: list[bytes] = []
    for byte in code:
        try:  # free where it succeeds, and a step is new only once
            place, symbols = steps[place | byte]
        except KeyError:
            place, symbols = _learn(place, byte)
        text.append(symbols)
    if place not in _PADDING:
        raise BadCode("padding is not the beginning of the end symbol")
    return b"".join(text)


def encode(text: bytes) -> bytes:
    digits = "".join([_CODE[byte] for byte in text])
    digits += "1" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big") if digits else b""
