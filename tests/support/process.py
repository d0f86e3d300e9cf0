"""Penstock as its users meet it: a process started on a file, asked over its admin address, ended by a signal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

# Never through a proxy that the environment may name: everything here is on loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PenstockProcess:
    """`with PenstockProcess(config, admin="127.0.0.1:9900") as penstock:` is ready when the block begins.

    It runs in the folder of `config`, so that relative paths in it and beside it stay there. Leaving the block sends
    SIGINT, which knows no grace, and asserts a clean end: exit code 0, no traceback or warning in what it printed. Pass
    `arguments=["demo"]` and no `config` to start something other than `penstock run FILE`.
    """

    def __init__(
        self,
        config: Path | None = None,
        *,
        admin: str,
        arguments: Sequence[str] = ("run",),
        folder: Path | None = None,
        ready_seconds: float = 15.0,
        stop_seconds: float = 15.0,
    ) -> None:
        self.config = config
        self.admin = admin
        self._command = [sys.executable, "-m", "penstock.control", *arguments, *([str(config)] if config else [])]
        self._folder = folder or (config.parent if config else None)
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__; a pipe could fill and block
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def output(self) -> str:
        """Everything printed so far, standard output and error together."""
        size = os.fstat(self._printed.fileno()).st_size
        return os.pread(self._printed.fileno(), size, 0).decode()

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of GET `path` on the admin address."""
        try:
            with _OPENER.open(f"http://{self.admin}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def status(self) -> dict[str, Any]:
        code, body = self.get("/status")
        assert code == 200, body
        return json.loads(body)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def memory(self) -> int:
        """Resident memory in bytes (Linux)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def wait(self, seconds: float) -> int:
        """The exit code, once it ends by itself or by a signal sent before."""
        return self._running.wait(seconds)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default::ResourceWarning"},
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        code, printed = self._end()
        if kind is not None:
            sys.stderr.write(f"--- penstock printed:\n{printed}")  # pytest shows it beside the failure
            return
        assert code == 0, f"exit code {code}\n{printed}"
        assert "Traceback" not in printed, printed
        assert "ResourceWarning" not in printed, printed

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_seconds
        while time.monotonic() < deadline:
            code = self._running.poll()
            if code is not None:
                raise AssertionError(f"ended with exit code {code} before it was ready\n{self.output()}")
            with contextlib.suppress(OSError):  # not listening yet
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"not ready within {self._ready_seconds:g} s\n{self.output()}")

    def _end(self) -> tuple[int, str]:
        process = self._running
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(self._stop_seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise AssertionError(
                        f"still running {self._stop_seconds:g} s after SIGINT\n{self.output()}"
                    ) from None
            return process.returncode, self.output()
        finally:
            self._printed.close()
