"""`make load`: one minute of locust against the quickstart, headless, with a summary at the end.

Starts the quickstart if nothing answers on its admin address, and ends it again if it was started here.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
READY = "http://127.0.0.1:9900/readyz"
START_SECONDS = 15

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is never behind a proxy


def is_ready() -> bool:
    try:
        with _opener.open(READY, timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


@contextmanager
def quickstart() -> Iterator[None]:
    """The one that runs already, or one for as long as the block lasts."""
    if is_ready():
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", "penstock.control", "demo"], cwd=HERE, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if process.poll() is not None:
                sys.exit(f"the quickstart ended with exit code {process.returncode}")
            if time.monotonic() > deadline:
                sys.exit(f"the quickstart was not ready within {START_SECONDS} s")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="load.py", description="Locust users against the quickstart.")
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    locust = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--exit-code-on-error", "1"]
    locust += ["--users", str(options.users), "--spawn-rate", str(options.users), "--run-time", f"{options.seconds}s"]
    with quickstart():
        return subprocess.run(locust, cwd=HERE, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
