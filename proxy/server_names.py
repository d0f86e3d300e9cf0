"""Which hosts a connection may ask for, where a listener shows different certificates to different names.

A client may ask for every host that its certificate is for (HTTP/2 clients do, RFC 9113 9.1.1), and for hosts that no
certificate is for. A host that is another certificate's is another tenant's, and gets 421 (RFC 9110 15.5.20).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from .http_fields import BadMessage


def covers(names: AbstractSet[bytes], host: bytes) -> bool:
    """Whether one of a certificate's dNSNames, in lower case, is for `host`.

    A wildcard stands for exactly one label, the leftmost (RFC 9525 section 6.3).
    """
    return host in names or b"*." + host.partition(b".")[2] in names


class HostGuard:
    """For connections that were shown one certificate of several.

    `allowed` are the hosts that were found right: one look into it is all that a usual request costs.
    """

    MAX_REMEMBERED = 1024  # clients choose what is asked for; cleared when full, what is worth keeping is back at once

    __slots__ = ("_elsewhere", "_own", "allowed")

    def __init__(self, own: AbstractSet[bytes], elsewhere: AbstractSet[bytes]) -> None:
        """`own`: the names of the certificate that is shown; `elsewhere`: those of the listener's others."""
        self._own = own
        self._elsewhere = elsewhere
        self.allowed: set[bytes] = set()

    def check(self, host: bytes) -> None:
        """`host` is in lower case and without port, empty where a HTTP/1.0 client named none."""
        name = host.removesuffix(b".")  # the root's dot is part of a name, and of no certificate
        if covers(self._elsewhere, name) and not covers(self._own, name):
            raise BadMessage(421, "misdirected_request")
        if len(self.allowed) >= self.MAX_REMEMBERED:
            self.allowed.clear()
        self.allowed.add(host)
