"""Receiving PROXY protocol headers: from whom, and how one is read off a socket without touching what follows it.

The header is read before TLS begins and before there is a transport: what is looked at with MSG_PEEK and found to
belong to the header is taken out, and the rest stays in the kernel for whoever comes next.
"""

from __future__ import annotations

import asyncio
import socket

from .firewall import Verdict
from .first_match import parse_address, parse_network
from .proxy_protocol import MAX_V2, Announcement, BadProxyHeader, parse
from .specs import TrustedProxiesSpec, is_unix

UNTRUSTED = Verdict(False, "proxy_protocol:untrusted", "only trusted proxies may connect here, and this is none")


class TrustedProxies:
    __slots__ = ("_networks", "_required")

    def __init__(self, spec: TrustedProxiesSpec) -> None:
        self._networks = [parse_network(cidr) for cidr in spec.cidrs]
        self._required = spec.required

    def trusts(self, peer: str) -> bool:
        """Such a peer begins with a header; any other is its own client."""
        if is_unix(peer):
            return True
        address = parse_address(peer)
        return any(first <= address <= last for first, last in self._networks)

    def refuses(self, peer: str) -> bool:
        return self._required and not self.trusts(peer)


async def read_header(sock: socket.socket, patience: float) -> Announcement:
    """The header at the head of this connection. BadProxyHeader, TimeoutError, or another OSError."""
    held = b""
    async with asyncio.timeout(patience):
        while True:
            seen = await _peek(sock, MAX_V2 - len(held))
            if not seen:
                raise BadProxyHeader("proxy_header_missing")
            announcement = parse(held + seen)
            if announcement is not None:
                sock.recv(announcement.length - len(held))
                return announcement
            # All of it is header. It is taken out, else the socket would stay readable and we would spin.
            held += sock.recv(len(seen))


async def _peek(sock: socket.socket, size: int) -> bytes:
    try:
        return sock.recv(size, socket.MSG_PEEK)
    except BlockingIOError:
        pass
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(sock, _resolve, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    return sock.recv(size, socket.MSG_PEEK)


def _resolve(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
