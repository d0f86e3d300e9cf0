"""Listening sockets: bound when a change is prepared, with an OSError that names the address where they cannot be."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .sharing import Sharing
from .specs import ListenerSpec

# Who may connect to a unix socket: the user and the group that Penstock runs as. nginx lets everyone in, HAProxy
# goes by the umask; a program of another user is put into the group.
SOCKET_MODE = 0o660

RECEIVE_BUFFER = 4 << 20  # bytes of datagrams that wait while the loop is busy; net.core.rmem_max may allow less
_IP_PKTINFO = 8  # Linux's number; Python 3.11 has a name for IPv6's only

FileIdentity = tuple[int, int]  # device and inode


def tcp_socket(spec: ListenerSpec, sharing: Sharing = "alone") -> socket.socket:
    with _named(spec.key, _family(spec.address), socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sharing == "shared":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((spec.address, spec.port))
        if sharing == "reserved":
            # Only now: before, it would let us join a stranger's port of the same user instead of hearing of him.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return sock


def udp_socket(spec: ListenerSpec, sharing: Sharing = "alone") -> socket.socket:
    """On 0.0.0.0 and [::] the kernel says with each datagram which of our addresses it was sent to."""
    with _named(spec.key, _family(spec.address), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if spec.address == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif spec.address == "0.0.0.0":
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if sharing == "shared":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((spec.address, spec.port))
        return sock


def unix_socket(path: str, name: str) -> tuple[socket.socket, FileIdentity]:
    """A file that a process left behind is replaced; one that somebody listens on, or that is no socket, is not."""
    with _named(name, socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        if _is_left_behind(path):
            with suppress(FileNotFoundError):
                os.unlink(path)
        sock.bind(path)
        os.chmod(path, SOCKET_MODE)  # before listen(): until then nobody gets in
        return sock, _identity(path)


def set_backlog(sock: socket.socket, backlog: int) -> None:
    """Of a socket that listens already; others are told when they begin."""
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.listen(backlog)


def remove_socket(path: str, identity: FileIdentity) -> None:
    """Unless another process has put its own there meanwhile."""
    with suppress(OSError):
        if _identity(path) == identity:
            os.unlink(path)


def _identity(path: str) -> FileIdentity:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _is_left_behind(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.setblocking(False)  # a full backlog is a BlockingIOError, and somebody's
        return visitor.connect_ex(path) == errno.ECONNREFUSED


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@contextmanager
def _named(name: str, family: socket.AddressFamily, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """A socket that is closed if it cannot be bound; the error then has `name` as its file name."""
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        yield sock
    except OSError as error:
        sock.close()
        # A path that is too long for the kernel is an OSError without a number.
        number = error.errno or errno.ENAMETOOLONG
        raise OSError(number, os.strerror(number), name) from error
