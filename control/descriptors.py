"""Listening sockets that the supervisor hands to its workers: what is bound to a path cannot be bound to it twice.

They travel beside the channel, on a socket pair of their own (SCM_RIGHTS), and before the message that counts on them,
so who has that message finds them there. All workers accept from the one queue, which outlives any of them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

# In one message, each of which has one octet of data to go with. Linux takes 253 (SCM_MAX_FD).
BATCH = 128


def hand_over(line: socket.socket, sockets: Iterable[socket.socket]) -> None:
    """Never waits. OSError when the other end is gone, or has taken nothing for very long."""
    descriptors = [each.fileno() for each in sockets]
    for start in range(0, len(descriptors), BATCH):
        socket.send_fds(line, [b"+"], descriptors[start : start + BATCH])


def take_over(line: socket.socket, names: Sequence[str]) -> dict[str, socket.socket]:
    """As many as there are names, in their order. They are the caller's to close."""
    descriptors: list[int] = []
    while len(descriptors) < len(names):
        said, some, _, _ = socket.recv_fds(line, 1, BATCH)
        if not said:
            raise ConnectionError("the supervisor is gone")
        descriptors += some
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in sockets:
        each.setblocking(False)  # as it is already, but Python must know: its `dup` would make it wait, for all workers
    return dict(zip(names, sockets, strict=True))
