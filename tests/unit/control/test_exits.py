"""Why an address could not be had, in a sentence that says what to do."""

from __future__ import annotations

import errno
import os

import pytest

from penstock.control.exits import cannot_listen, host_port, is_loopback

SENTENCES = {
    errno.EADDRINUSE: "another process does",
    errno.EACCES: "ports below 1024 are for root",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.EMFILE: "Too many open files",
}


@pytest.mark.parametrize("number", SENTENCES, ids=errno.errorcode.get)
def test_the_sentence_names_the_address_and_the_reason(number: int) -> None:
    sentence = cannot_listen(OSError(number, os.strerror(number), "192.0.2.1:80"))
    assert sentence.startswith("cannot listen on 192.0.2.1:80: ")
    assert SENTENCES[number] in sentence


@pytest.mark.parametrize(
    ("wanted", "own", "whose"),
    [
        ("0.0.0.0:80", ("127.0.0.1", 80), "Penstock itself does, on 127.0.0.1:80: "),
        ("127.0.0.1:80", ("0.0.0.0", 80), "Penstock itself does, on 0.0.0.0:80: "),
        ("192.0.2.1:53/udp", ("192.0.2.1", 53), "Penstock itself does, on 192.0.2.1:53: "),
        ("[::]:80", ("::1", 80), "Penstock itself does, on [::1]:80: "),
        ("0.0.0.0:80", ("127.0.0.1", 8080), "another process does"),
        ("0.0.0.0:80", ("::", 80), "another process does"),
        ("192.0.2.1:80", ("192.0.2.2", 80), "another process does"),
    ],
)
def test_who_has_the_port(wanted: str, own: tuple[str, int], whose: str) -> None:
    error = OSError(errno.EADDRINUSE, "Address already in use", wanted)
    assert cannot_listen(error, [own]).startswith(f"cannot listen on {wanted}: {whose}")


@pytest.mark.parametrize(
    ("address", "written", "loopback"),
    [
        ("127.0.0.1", "127.0.0.1:53", True),
        ("127.9.9.9", "127.9.9.9:53", True),
        ("::1", "[::1]:53", True),
        ("0.0.0.0", "0.0.0.0:53", False),
        ("::", "[::]:53", False),
        ("2001:db8::1", "[2001:db8::1]:53", False),
    ],
)
def test_addresses(address: str, written: str, loopback: bool) -> None:
    assert host_port(address, 53) == written
    assert is_loopback(address) is loopback
