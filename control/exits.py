"""How Penstock says that it cannot go on: one sentence and an exit code, never a traceback.

A supervisor tells by the code whether a restart can help: mistakes and unreadable files need a person, a port in use
may be free the next time.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    MISTAKES = 1  # the configuration says something that cannot be
    UNREADABLE = 2  # a file is missing or not ours to read; a wrong command line ends so too (click's convention)
    CANNOT_LISTEN = 3  # a port is in use, or not ours to bind
    UNREACHABLE = 4  # `status`: nobody answers there


class CannotApply(Exception):
    """A configuration without mistakes that this machine does not let us run, and why, as a sentence."""


def host_port(address: str, port: int) -> str:
    if address.startswith("/"):
        return f"unix:{address}"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def overlap(one: str, other: str) -> bool:
    """Whether two sockets on these addresses can not have the same port. IPv6 ones of ours are IPv6 alone."""
    same_family = (":" in one) == (":" in other)
    return one == other or (same_family and bool({one, other} & {"0.0.0.0", "::"}))


def cannot_listen(error: OSError, own: Iterable[tuple[str, int]] = ()) -> str:
    """The sentence for an address that could not be bound; the error names it as its file name.

    `own` is what this process listens on already. A listener is bound before the one that it replaces is closed, so
    that a rejected change takes nothing away: `127.0.0.1:80` cannot become `0.0.0.0:80` while it runs.
    """
    unix = str(error.filename).startswith("unix:")
    match error.errno:
        case errno.EADDRINUSE if unix:
            why = "another process does (`ss -lxp` shows which), or what is there is no socket"
        case errno.EADDRINUSE if ours := _in_the_way(str(error.filename), own):
            why = f"Penstock itself does, on {ours}: take another port, or restart it with this configuration"
        case errno.EADDRINUSE:
            why = "another process does (`ss -lntup` shows which)"
        case errno.EACCES if not unix:
            why = (
                "ports below 1024 are for root, or for a process with the capability CAP_NET_BIND_SERVICE "
                "(AmbientCapabilities= in systemd, cap_add: in Compose)"
            )
        case errno.EADDRNOTAVAIL:
            why = "no interface of this machine has that address"
        case _:
            why = error.strerror or str(error)
    return f"cannot listen on {error.filename}: {why}"


def _in_the_way(wanted: str, own: Iterable[tuple[str, int]]) -> str | None:
    host, _, port = wanted.partition("/")[0].rpartition(":")  # DNS says 127.0.0.1:53/udp
    address = host.removeprefix("[").removesuffix("]")
    return next((host_port(*at) for at in own if str(at[1]) == port and overlap(address, at[0])), None)
