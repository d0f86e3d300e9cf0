"""A WebSocket origin for the bench: says 101 to everyone who upgrades, 200 to everyone else, and sends back what comes.

Frames are sent back as they are, mask and all: the bench looks at whether bytes travel, not at what they mean.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\nhello world, this is a small body\n"


class Origin(asyncio.Protocol):
    def __init__(self) -> None:
        self._upgraded = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._upgraded:
            self._transport.write(data)
        elif b"upgrade: websocket" in data.lower():
            self._upgraded = True
            self._transport.write(UPGRADED)
        else:
            self._transport.write(PLAIN)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Origin, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
