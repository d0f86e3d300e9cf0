"""What a test asks of the machine: a free port, and a program that may not be installed."""

from __future__ import annotations

import os
import shutil
import socket

import pytest

# Debian keeps servers in sbin, which is not on a plain user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def need_tool(name: str, *, package: str) -> str:
    """The full path of program `name`, or a skip that says which Debian package has it."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        pytest.skip(f"needs the program {name}: apt-get install {package}")
    return found


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody holds on `address`, neither for TCP nor for UDP.

    Somebody may take it before the caller does; prefer binding port 0 where the port can be asked for afterwards.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(family, socket.SOCK_DGRAM) as udp:
            tcp.bind((address, 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind((address, port))
            except OSError:  # held for UDP only: draw again
                continue
            return port
