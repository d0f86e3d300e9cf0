"""A machine of its own whose only resolver is our server: asks libc for names and prints what it was told, as JSON.

Run inside fresh user, mount and network namespaces, where port 53 and /etc/resolv.conf are nobody else's; see
wire/dns/test_clients.py.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys

from penstock.dns.server import DnsServer

from . import dns_packets as packets
from .dns_net import Health

SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def look_up(name: str) -> list[str] | str:
    try:
        found = socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        return errors[error.errno]
    return sorted(str(address[0]) for *_, address in found)


errors = {getattr(socket, name): name for name in ("EAI_NONAME", "EAI_AGAIN", "EAI_NODATA", "EAI_FAIL")}


async def main(names: list[str]) -> None:
    server = DnsServer(Health())
    (await server.prepare(packets.spec(listen=(("127.0.0.1", 53),)))).commit()
    found = {name: await asyncio.to_thread(look_up, name) for name in names}
    over_tcp = sum(count for (transport, _), count in server.counters.queries.items() if transport == "tcp")
    print(json.dumps({"found": found, "over_tcp": over_tcp}))
    await server.stop(0)


if __name__ == "__main__":
    raise_loopback()
    asyncio.run(main(sys.argv[1:]))
