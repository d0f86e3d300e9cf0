"""How the interpreter is set for serving: the same in a single process and in every worker."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds that another thread may keep the interpreter while the loop waits for it. CPython's 5 ms would be seen in the
# latency of every request while a reload reads a large file or a scrape is written out.
SWITCH_INTERVAL = 0.0005

# Objects allocated before the cycle collector looks at the youngest of them. CPython's 700 has it look some hundred
# times a second under load; a proxied request leaves no cycles, so nothing is gained by it.
GC_THRESHOLD = (50_000, 20, 20)


def switch_threads_fast() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL)


def hush_bad_server_names() -> None:
    """A server name (SNI) that is not ASCII is none (RFC 6066 section 3). Python's ssl ends the handshake, which is
    counted, and has sys.unraisablehook print a traceback besides: lines in the log that any stranger can write."""
    print_it = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        # Its object is the name itself, as bytes. What a finaliser raises has an object that is no such thing.
        if isinstance(unraisable.object, bytes) and unraisable.exc_type is UnicodeDecodeError:
            return
        print_it(unraisable)

    sys.unraisablehook = hook


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """While a configuration is read: it makes objects by the million and hardly any cycles, and to look for those takes
    as long as all the rest (2.8 s in place of 1.1 s for 10,000 rules), with the loop standing still."""
    gc.disable()
    try:
        yield
    finally:
        # What was made joins the oldest generation unseen. Else the next collection would look at all of it at once.
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def spare_the_collector() -> None:
    """What start made stays: leave it out of later collections. Once only, so that what a reload replaces can go."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
