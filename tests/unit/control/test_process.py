"""How the process ends; its life before is tested end to end."""

from __future__ import annotations

import subprocess
import sys

# A thread of the loop's own that outlives the work, so that the loop is still closing when the signal comes. It waits
# for the signal to be ignored, and sends it anyhow if that does not come to pass.
SIGNAL_WHILE_CLOSING = """
import asyncio, os, signal, time
from penstock.control.process import run_to_the_end

def signal_late():
    for _ in range(500):
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            break
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

async def work():
    asyncio.get_running_loop().run_in_executor(None, signal_late)

run_to_the_end(work())
print("ended")
"""

# A thread that never ends, as one that reads from a file server which is gone.
HANGING_THREAD = """
import asyncio, threading
from penstock.control import process

process.HARD_STOP = 0.1

async def work():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)

process.run_to_the_end(work())
"""


def test_a_thread_that_hangs_does_not_keep_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING_THREAD], capture_output=True, timeout=30, check=False, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_signal_while_the_loop_closes_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_WHILE_CLOSING], capture_output=True, text=True, timeout=30, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
