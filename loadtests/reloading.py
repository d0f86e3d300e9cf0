"""A Penstock whose configuration is changed while it serves, and the moment from which the new one is served."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import time
from contextlib import ExitStack

from peers import HttpPlan
from penstock_configs import GENERATION_PATH, Size, penstock_yaml
from servers import BenchError, Server, http_answers

# Longer than any reload should take by far, so that a hang ends.
LIMIT_SECONDS = 60.0


class Reloaded:
    def __init__(self, name: str, plan: HttpPlan, size: Size, core: str, stack: ExitStack) -> None:
        self.plan = plan
        self._size = size
        self._file = plan.folder / f"{name}.yaml"
        self._generation = 0
        self._write()
        self._server = Server(
            name, [sys.executable, "-m", "penstock.control", "run", self._file.name], core=core, folder=plan.folder
        )
        stack.callback(self._server.stop)
        self._server.wait_until(lambda: http_answers(plan.http, "/"), seconds=LIMIT_SECONDS)

    @property
    def pid(self) -> int:
        return self._server.pid

    def _write(self) -> None:
        """Complete at once: the watcher of files must not see half of it."""
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(penstock_yaml(self.plan, self._size, self._generation))
        unfinished.replace(self._file)

    def reload(self) -> float:
        """Seconds from SIGHUP until a new connection is served by the new configuration."""
        self._generation += 1
        self._write()
        began = time.monotonic()
        os.kill(self.pid, signal.SIGHUP)
        while self._served() != self._generation:
            if time.monotonic() - began > LIMIT_SECONDS:
                raise BenchError(f"the new configuration was not served within {LIMIT_SECONDS:g} s")
            time.sleep(0.005)
        return time.monotonic() - began

    def _served(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.plan.http, timeout=LIMIT_SECONDS)
        try:
            connection.request("GET", GENERATION_PATH)
            return int(connection.getresponse().read())
        except (OSError, http.client.HTTPException) as exc:
            raise BenchError(f"a request got no answer during a reload: {exc}") from None
        finally:
            connection.close()
