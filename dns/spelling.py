"""0x20: the question goes out with the case of its letters drawn by lot, and must come back so.

Servers repeat the question as it was sent, so each letter is one more bit that a forger has to guess beside id and
port (draft-vixie-dnsext-dns0x20). Some resolvers fold the case; theirs are recognised here, and believed over TCP only.
Pure.
"""

from __future__ import annotations

HEADER_SIZE = 12

_FLIP = bytes(byte ^ 0x20 if chr(byte).isalpha() and byte < 0x80 else byte for byte in range(256))


def mixed(section: bytes, lot: bytes) -> bytes:
    """The question section with the case of each letter turned where a bit of `lot` is set; type and class stay."""
    bits = int.from_bytes(lot)
    name = bytearray(section)
    # Length octets are below 0x40, so no label's length is taken for a letter.
    for index in range(len(section) - 4):
        if bits >> (index % (8 * len(lot))) & 1:
            name[index] = _FLIP[name[index]]
    return bytes(name)


def folded(packet: bytes, message_id: int, section: bytes) -> bool:
    """Whether this would be the answer to the question, but for the case of its letters."""
    end = HEADER_SIZE + len(section)
    return (
        packet[:2] == message_id.to_bytes(2)
        and packet[HEADER_SIZE:end] != section
        and packet[HEADER_SIZE : end - 4].lower() == section[:-4].lower()
        and packet[end - 4 : end] == section[-4:]
    )
