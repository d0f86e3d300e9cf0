"""One key for the TLS session tickets of several processes, so that each resumes what another began.

Without it each process seals tickets with a key of its own, and a client that comes back to another one pays a full
handshake. Python's ssl has no call for this and OpenSSL has, so the OpenSSL that Python itself has loaded is called.
That is done only with interpreters whose context objects are known to begin with OpenSSL's pointer; elsewhere, and
where the library hides its symbols, `share` says False and nothing changes.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from functools import cache
from typing import Any

KEY_BYTES = 80  # OpenSSL: 16 of name, 32 for the HMAC, 32 for AES-256

# Seconds. A new key ends the use of all tickets under the old one, and of what somebody who finds it could read. RFC
# 8446 section 4.6.1 lets no ticket live longer than seven days, and OpenSSL's live two hours.
ROTATION = 12 * 3600.0

_SET_TICKET_KEYS = 59  # SSL_CTRL_SET_TLSEXT_TICKET_KEYS of openssl/ssl.h; without a key it answers with their size

# Versions whose PySSLContext begins with `SSL_CTX *ctx`, as it has since there is one; a new one is looked at first.
_KNOWN = (3, 11), (3, 13)


@cache
def _library() -> Any:
    """The OpenSSL that the interpreter's ssl module uses, or None."""
    if sys.implementation.name != "cpython" or not _KNOWN[0] <= sys.version_info[:2] <= _KNOWN[1]:
        return None
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)  # finds what the module was linked with
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
    except (ImportError, OSError, AttributeError):  # built in, or without symbols
        return None
    return library


def share(context: ssl.SSLContext, key: bytes) -> bool:
    """Seal and open the tickets of `context` with `key` from now on. False if this interpreter does not let us."""
    library = _library()
    if library is None:
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not pointer or library.SSL_CTX_get_options(pointer) & 0xFFFFFFFF != int(context.options) & 0xFFFFFFFF:
        return False
    if library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, 0, None) != len(key):
        return False
    return library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, len(key), key) == 1
