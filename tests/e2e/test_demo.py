"""`penstock demo`, which is `make run`: the commands that it prints are pasted, and do what they promise."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess

import pytest

from penstock.control.config import load
from penstock.control.demo import ORIGINS, QUICKSTART
from support import PenstockProcess, need_tool

ADMIN = "127.0.0.1:9900"


def need_free_ports() -> None:
    """The demo's ports are fixed, for its commands stand in the README."""
    settings = load(QUICKSTART, now=0, materialize=False).settings
    listening = [(address, port) for _, address, port in ORIGINS]
    listening += [(listener.address, listener.port) for listener in settings.proxy.listeners]
    listening += settings.dns.listen
    assert settings.admin is not None
    for address, port in [*listening, settings.admin]:
        try:
            socket.create_server((address, port)).close()
        except OSError as error:
            pytest.skip(f"needs the demo's port {address}:{port}: {error.strerror}")


def paste(command: str) -> str:
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_the_four_commands_and_ctrl_c() -> None:
    need_tool("curl", package="curl")
    need_tool("dig", package="bind9-dnsutils")
    need_free_ports()
    with PenstockProcess(admin=ADMIN, arguments=["demo"]) as penstock:
        printed = penstock.output()
        for where in ("8080 (HTTP", "8443 (HTTPS", "8053 (DNS", "9900 (admin)", "9001 (sample", "9002 (sample"):
            assert f"listening on 127.0.0.1:{where}" in printed
        commands = re.findall(r"^  ((?:curl|dig) .*)$", printed, re.MULTILINE)
        assert len(commands) == 4
        http, https, address, service = map(paste, commands)
        assert re.fullmatch(r"origin-[12] got GET /, 0 bytes\n", http)
        assert re.fullmatch(r"origin-[12] got GET /, 0 bytes\n", https)
        assert "status: NOERROR" in address
        assert re.search(r"\sIN\s+A\s+127\.0\.0\.1\n", address)
        assert "status: NOERROR" in service
        assert re.search(r"\sIN\s+SRV\s+\d+ \d+ 900[12] ", service)
        penstock.signal(signal.SIGINT)
        assert penstock.wait(10) == 0
        assert "Traceback" not in penstock.output()


def test_a_demo_whose_port_is_taken_says_so() -> None:
    need_free_ports()
    _, address, port = ORIGINS[0]
    with socket.create_server((address, port)), pytest.raises(AssertionError) as raised:
        PenstockProcess(admin=ADMIN, arguments=["demo"]).__enter__()
    assert "ended with exit code 3" in str(raised.value)
    assert f"penstock: cannot listen on {address}:{port}: another process does" in str(raised.value)
