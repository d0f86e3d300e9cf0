"""Penstock's own log: one line per event on standard error, time first, in UTC.

What happened to each request is the access log's; here stands what happened to Penstock.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

LogFormat = Literal["text", "json"]

TIME = "%Y-%m-%dT%H:%M:%SZ"


class _Text(logging.Formatter):
    converter = time.gmtime

    def __init__(self, worker: int | None) -> None:
        self._worker = worker
        who = "" if worker is None else f"worker {worker}: "
        super().__init__(f"%(asctime)s %(levelname)s {who}%(message)s", TIME)


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, str | int] = {
            "time": self.formatTime(record, TIME),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if self._worker is not None:
            fields["worker"] = self._worker
        fields["message"] = record.getMessage()
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_to_stderr(form: LogFormat = "text", level: int = logging.INFO, *, worker: int | None = None) -> None:
    """Send everything from `level` up to standard error, once, whatever was set up before.

    A worker's lines say which one it is.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(worker) if form == "json" else _Text(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # asyncio tells of every accept that failed for lack of descriptors and the like; below WARNING it only chats.
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))


def format_in_use() -> LogFormat:
    """For processes that are to write to the same place."""
    return "json" if any(isinstance(handler.formatter, _Json) for handler in logging.getLogger().handlers) else "text"
