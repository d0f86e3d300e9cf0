"""How the interpreter is set for serving: the same in a single process and in every worker."""

from __future__ import annotations

import gc
import sys

# Seconds that another thread may keep the interpreter while the loop waits for it. CPython's 5 ms would be seen in the
# latency of every request while a reload reads a large file or a scrape is written out.
SWITCH_INTERVAL = 0.0005

# Objects allocated before the cycle collector looks at the youngest of them. CPython's 700 has it look some hundred
# times a second under load; a proxied request leaves no cycles, so nothing is gained by it.
GC_THRESHOLD = (50_000, 20, 20)


def switch_threads_fast() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL)


def spare_the_collector() -> None:
    """What start made stays: leave it out of later collections. Once only, so that what a reload replaces can go."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
