"""One key for the TLS session tickets of several processes, so that each resumes what another began.

Without it each process seals tickets with a key of its own, and a client that comes back to another one pays a full
handshake. Python's ssl has no call for this and OpenSSL has; where that cannot be reached, `share` says False and
nothing changes.
"""

from __future__ import annotations

import hashlib
import ssl

from .openssl import below
from .specs import ClientCertificatesSpec

KEY_BYTES = 80  # OpenSSL: 16 of name, 32 for the HMAC, 32 for AES-256

# Seconds. A new key ends the use of all tickets under the old one, and of what somebody who finds it could read. RFC
# 8446 section 4.6.1 lets no ticket live longer than seven days, and OpenSSL's live two hours.
ROTATION = 12 * 3600.0

_SET_TICKET_KEYS = 59  # SSL_CTRL_SET_TLSEXT_TICKET_KEYS of openssl/ssl.h; without a key it answers with their size


def key_for(key: bytes, asked: ClientCertificatesSpec | None) -> bytes:
    """The key of listeners that ask their clients for this much.

    Who resumes is not asked for a certificate again. So a ticket must be of no use where more is asked for than where
    it was given, nor after the authorities have changed, or what they have revoked.
    """
    if asked is None:
        return key
    all_of_it = (key, asked.mode.encode(), b"\0", asked.authorities_pem, b"\0", asked.revocations_pem)
    return hashlib.shake_256(b"".join(all_of_it)).digest(len(key))


def share(context: ssl.SSLContext, key: bytes) -> bool:
    """Seal and open the tickets of `context` with `key` from now on. False if this interpreter does not let us."""
    found = below(context)
    if found is None:
        return False
    library, pointer = found
    if library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, 0, None) != len(key):
        return False
    return library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, len(key), key) == 1
