"""The OpenSSL below Python's ssl, for what OpenSSL can and Python has no call for.

A context object begins with OpenSSL's pointer in every CPython that is known here. With other interpreters, and where
the library hides its symbols, there is nothing to be had, and callers say what that means.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from functools import cache
from typing import Any

# Versions whose PySSLContext begins with `SSL_CTX *ctx`, as it has since there is one; a new one is looked at first.
_KNOWN = (3, 11), (3, 13)


@cache
def _library() -> Any:
    if sys.implementation.name != "cpython" or not _KNOWN[0] <= sys.version_info[:2] <= _KNOWN[1]:
        return None
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)  # finds what the module was linked with
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_set_verify.restype = None
        library.SSL_CTX_set_verify.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    except (ImportError, OSError, AttributeError):  # built in, or without symbols
        return None
    return library


def below(context: ssl.SSLContext) -> tuple[Any, int] | None:
    """The library and its pointer to the same context; None if this interpreter does not let us."""
    library = _library()
    if library is None:
        return None
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not pointer or library.SSL_CTX_get_options(pointer) & 0xFFFFFFFF != int(context.options) & 0xFFFFFFFF:
        return None
    return library, pointer
