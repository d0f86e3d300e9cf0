"""How many processors there are for us, which is how many workers `auto` means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def worker_count(wanted: int | Literal["auto"]) -> int:
    return available_processors() if wanted == "auto" else wanted


def available_processors(quota: Path = CPU_QUOTA) -> int:
    """Those that the process may run on, and no more than its container's share pays for, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        return max(1, min(allowed, -(-int(share) // int(period))))
    except (OSError, ValueError):  # no such file outside of Linux's cgroup v2; `max` is no number
        return allowed
