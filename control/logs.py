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

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", TIME)


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": self.formatTime(record, TIME), "level": record.levelname.lower(), "logger": record.name}
        fields["message"] = record.getMessage()
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def log_to_stderr(form: LogFormat = "text", level: int = logging.INFO) -> None:
    """Send everything from `level` up to standard error, once, whatever was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # asyncio tells of every accept that failed for lack of descriptors and the like; below WARNING it only chats.
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))
