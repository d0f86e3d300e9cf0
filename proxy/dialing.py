"""Connecting to a target: by address or unix socket, in plain text or TLS, with a PROXY protocol header or without.

A header goes before everything else, the TLS handshake too, so where there is one the socket is connected first and
becomes a transport afterwards.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .proxy_protocol import Endpoint, build
from .specs import TargetTlsSpec, is_unix

if TYPE_CHECKING:
    from .targets import Target

P = TypeVar("P", bound=asyncio.BaseProtocol)

UNIX_SERVER_NAME = "localhost"  # whom a target on a unix socket proves to be, unless the configuration says otherwise


async def connect_target(
    target: Target, factory: Callable[[], P], source: Endpoint | None, destination: Endpoint | None
) -> tuple[asyncio.Transport, P]:
    """`source` is the client, `destination` where it connected to. Raises OSError; ssl.SSLError is one."""
    spec, group = target.spec, target.group
    context = group.tls
    name = None if context is None else server_name(group.spec.tls, spec.ip)
    loop = asyncio.get_running_loop()
    version = group.spec.proxy_protocol
    if version is None and not spec.is_unix:
        return await loop.create_connection(factory, spec.ip, spec.port, ssl=context, server_hostname=name)
    header = b"" if version is None else build(version, source, destination)
    connected = await connect_socket(spec.ip, spec.port, header)
    try:
        return await loop.create_connection(factory, sock=connected, ssl=context, server_hostname=name)
    except BaseException:
        connected.close()
        raise


async def connect_socket(ip: str, port: int, header: bytes) -> socket.socket:
    """A connected socket on which `header` has been sent."""
    loop = asyncio.get_running_loop()
    family = socket.AF_UNIX if is_unix(ip) else socket.AF_INET6 if ":" in ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, ip if family == socket.AF_UNIX else (ip, port))
        if header:
            await loop.sock_sendall(sock, header)
    except BaseException:
        sock.close()
        raise
    return sock


def server_name(tls: TargetTlsSpec, ip: str) -> str:
    """For SNI, and for the certificate to be valid for. An address is verified as such, and not sent as a name."""
    return tls.server_name or (UNIX_SERVER_NAME if is_unix(ip) else ip)


def connect_failure(error: OSError) -> str:
    """The word for it. A target that cannot prove who it is, is not one that is down."""
    return "target_tls_failed" if isinstance(error, ssl.SSLError) else "connect_failed"
