"""The processes of the bench: found, pinned to a core, waited for, and ended by pid."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# Debian keeps servers in sbin, which is not on a plain user's PATH; Envoy comes as a Python package, beside Python.
SEARCH_PATH = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin", os.path.dirname(sys.executable)]
)


class BenchError(Exception):
    """Something that the reader of the results must be told in a sentence."""


def find_program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


class Server:
    """One server process, pinned to one core, its output in a file, ended by pid."""

    def __init__(self, name: str, command: Sequence[str], *, core: str, folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.out"
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", core, *command],
                cwd=folder,
                env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid  # taskset has become the server: it calls exec

    def wait_until(self, answers: Callable[[], bool], *, seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchError(f"ended with exit code {self._process.returncode}: {self._last_words()}")
            with suppress(OSError):  # not listening yet
                if answers():
                    return
            time.sleep(0.05)
        raise BenchError(f"did not answer within {seconds:g} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-3:]) if lines else "it printed nothing"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def free_port() -> int:
    """A port that nobody holds on loopback, neither for TCP nor for UDP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with suppress(OSError):  # held for UDP only: draw again
                udp.bind(("127.0.0.1", port))
                return port


def http_answers(port: int, path: str, *, tls: bool = False) -> bool:
    """Whether GET `path` is answered 200 with the whole body. 503 may mean that health is not known yet."""
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": "app.example.org"})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException:
        return False
    finally:
        connection.close()
    return answer.status == 200 and len(body) == (2**20 if path == "/big" else 34)
