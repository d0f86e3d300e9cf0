"""Sockets that go from one process to another: all arrive, in order, and are the same sockets."""

from __future__ import annotations

import os
import socket

import pytest

from penstock.control.descriptors import BATCH, hand_over, take_over


def identity(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.mark.parametrize("count", [0, 1, BATCH, BATCH + 1])
def test_sockets_arrive_by_name(count: int) -> None:
    ours, its = socket.socketpair()
    sent = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    try:
        with ours, its:
            hand_over(ours, sent)
            taken = take_over(its, [f"unix:/{number}" for number in range(count)])
            try:
                assert list(taken) == [f"unix:/{number}" for number in range(count)]
                assert list(map(identity, taken.values())) == list(map(identity, sent))
            finally:
                for each in taken.values():
                    each.close()
    finally:
        for each in sent:
            each.close()


def test_a_duplicate_of_one_that_was_handed_over_does_not_block() -> None:
    """Whether accept() waits is one flag for all processes, and a worker that is new must not change it for others."""
    ours, its = socket.socketpair()
    with ours, its, socket.socket(socket.AF_UNIX) as one:
        one.setblocking(False)
        hand_over(ours, [one])
        with take_over(its, ["unix:/run/web.sock"])["unix:/run/web.sock"] as taken, taken.dup():
            assert not os.get_blocking(one.fileno())


def test_a_line_whose_other_end_is_gone() -> None:
    ours, its = socket.socketpair()
    with ours, its, socket.socket(socket.AF_UNIX) as one:
        ours.close()
        with pytest.raises(ConnectionError):
            take_over(its, ["unix:/run/web.sock"])
        ours, its = socket.socketpair()
        its.close()
        with ours, pytest.raises(OSError, match="Broken pipe"):
            hand_over(ours, [one])
