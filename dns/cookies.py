"""DNS cookies (RFC 7873, RFC 9018): a client that shows the cookie we gave it is at the address that it says.

The server cookie is a keyed hash of the client's cookie, its address and the time, so nothing is remembered about
anybody, and every process with the same secret understands it. Pure: it is told the time.
"""

from __future__ import annotations

from struct import Struct

CLIENT_SIZE = 8  # octets, RFC 7873 section 4.1
SERVER_SIZE = 16  # RFC 9018 section 4: version, reserved, time, hash
SECRET_SIZE = 16
OPTION_SIZE = 4 + CLIENT_SIZE + SERVER_SIZE
VERSION = b"\x01\0\0\0"
LIFETIME = 3600  # seconds, RFC 9018 section 4.3; from half of that on a new one is given
AHEAD = 300  # seconds that the clock of another server may be before ours

_WORD = Struct("<Q")
_MASK = (1 << 64) - 1


def siphash24(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4, which RFC 9018 asks for: every server of a name then understands the cookies of all."""
    (k0,), (k1,) = _WORD.unpack_from(key), _WORD.unpack_from(key, 8)
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    padded = data + bytes(7 - len(data) % 8) + bytes((len(data) & 0xFF,))
    words = [word for (word,) in _WORD.iter_unpack(padded)]
    for word, rounds in [*((word, 2) for word in words), (None, 4)]:
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(rounds):
            v0 = v0 + v1 & _MASK
            v1 = (v1 << 13 | v1 >> 51) & _MASK ^ v0
            v0 = (v0 << 32 | v0 >> 32) & _MASK
            v2 = v2 + v3 & _MASK
            v3 = (v3 << 16 | v3 >> 48) & _MASK ^ v2
            v0 = v0 + v3 & _MASK
            v3 = (v3 << 21 | v3 >> 43) & _MASK ^ v0
            v2 = v2 + v1 & _MASK
            v1 = (v1 << 17 | v1 >> 47) & _MASK ^ v2
            v2 = (v2 << 32 | v2 >> 32) & _MASK
        if word is not None:
            v0 ^= word
    return _WORD.pack(v0 ^ v1 ^ v2 ^ v3)


def server_cookie(secret: bytes, client_cookie: bytes, address: bytes, now: int) -> bytes:
    """`address` is the client's in network order."""
    front = VERSION + (now & 0xFFFFFFFF).to_bytes(4)
    return front + siphash24(secret, client_cookie + front + address)


def is_well_formed(cookie: bytes) -> bool:
    """RFC 7873 section 5.2.2: anything else is a format error."""
    return len(cookie) == CLIENT_SIZE or CLIENT_SIZE + 8 <= len(cookie) <= CLIENT_SIZE + 32


def answer_cookie(secret: bytes, cookie: bytes, address: bytes, now: int) -> tuple[bytes, bool]:
    """The cookie to send with the answer, and whether the one that came was ours and is still good."""
    mine, theirs = cookie[:CLIENT_SIZE], cookie[CLIENT_SIZE:]
    if len(theirs) == SERVER_SIZE and theirs[:4] == VERSION:
        given = int.from_bytes(theirs[4:8])
        # Serial number arithmetic (RFC 1982), so that 2106 is a year like any other.
        age = (now - given + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
        if -AHEAD <= age <= LIFETIME and siphash24(secret, mine + theirs[:8] + address) == theirs[8:]:
            return (cookie if age <= LIFETIME // 2 else mine + server_cookie(secret, mine, address, now)), True
    return mine + server_cookie(secret, mine, address, now), False
