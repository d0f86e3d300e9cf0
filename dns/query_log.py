"""One line of JSON for some of the queries, written by a thread: whoever asks never waits for a disk.

Lines wait in a queue of bounded length; where the disk cannot keep up, lines are lost and counted, not answers.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from typing import IO

from .counters import RCODE_NAMES, TYPE_NAMES
from .transport_specs import QueryLogSpec
from .wire import RCODE_MASK, Question

QUEUE_LIMIT = 10_000  # lines; some seconds of a busy server
LINES_AT_ONCE = 1000  # written with one call
CLOSE_TIMEOUT = 2.0  # seconds that a stopping server gives a slow disk

log = logging.getLogger(__name__)


class _Order(Enum):
    """What the thread is to do when it has written the lines before."""

    END = "end"
    REOPEN = "open the file anew"


class QueryLog:
    """OSError when the file cannot be written."""

    def __init__(self, spec: QueryLogSpec) -> None:
        self.spec = spec
        self.lost = 0
        self._share = 0.0
        self._lines: queue.Queue[tuple[object, ...] | _Order] = queue.Queue(QUEUE_LIMIT)
        self._file = _opened(spec.path)
        self._thread = threading.Thread(target=self._write, name="query log", daemon=True)
        self._thread.start()

    def is_wanted(self) -> bool:
        """Every n-th, so that a sample says as much about a quiet hour as about a busy one."""
        self._share += self.spec.sample
        if self._share < 1.0:
            return False
        self._share -= 1.0
        return True

    def add(self, client: str, transport: str, question: Question, reply: bytes, seconds: float) -> None:
        try:
            self._lines.put_nowait(
                (time.time(), client, transport, question, reply[3] & RCODE_MASK, len(reply), seconds)
            )
        except queue.Full:
            self.lost += 1

    def end(self) -> None:
        """What is there will still be written; nobody waits for it."""
        self._order(_Order.END)

    def reopen(self) -> None:
        """After the file was moved away (log rotation). If the new one cannot be opened, the old one goes on."""
        self._order(_Order.REOPEN)

    def _order(self, order: _Order) -> None:
        while True:
            try:
                self._lines.put_nowait(order)
                return
            except queue.Full:
                with suppress(queue.Empty):  # the thread may have been quicker
                    self._lines.get_nowait()
                    self.lost += 1

    def close(self) -> None:
        self.end()
        self._thread.join(CLOSE_TIMEOUT)

    def _write(self) -> None:
        order = None
        while order is not _Order.END:
            lines, order = self._next()
            _put(self._file, lines)
            if order is _Order.REOPEN:
                try:
                    file = _opened(self.spec.path)
                except OSError as error:
                    log.error(
                        "query log %s cannot be opened again: %s; going on in the old file",
                        self.spec.path,
                        error.strerror,
                    )
                else:
                    self._file.close()
                    self._file = file
        self._file.close()

    def _next(self) -> tuple[list[bytes], _Order | None]:
        """Lines to be written at once, and what to do then."""
        line = self._lines.get()
        lines: list[bytes] = []
        while not isinstance(line, _Order):
            lines.append(_text(line))
            if len(lines) == LINES_AT_ONCE or self._lines.empty():
                return lines, None
            line = self._lines.get()
        return lines, line


def _opened(path: str) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640), "wb", buffering=0)


def _put(file: IO[bytes], lines: list[bytes]) -> None:
    try:
        file.write(b"".join(lines))
    except OSError:  # a full disk; the lines are lost, the server is not
        pass


def _text(line: tuple[object, ...]) -> bytes:
    at, client, transport, question, rcode, size, seconds = line
    assert isinstance(at, float)
    assert isinstance(seconds, float)
    assert isinstance(question, Question)
    assert isinstance(rcode, int)
    fields = {
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "client": client,
        "transport": transport,
        "name": name_text(question.key),
        "type": TYPE_NAMES.get(question.qtype, f"TYPE{question.qtype}"),
        "edns": question.edns,
        "rcode": RCODE_NAMES.get(rcode, str(rcode)),
        "size": size,
        "seconds": round(seconds, 6),
    }
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def name_text(key: bytes) -> str:
    """A name as zone files have it: what is not printable, and dots in labels, as \\DDD (RFC 1035 section 5.1)."""
    labels: list[str] = []
    at = 0
    while key[at]:
        label = key[at + 1 : at + 1 + key[at]]
        labels.append("".join(chr(c) if 0x21 <= c <= 0x7E and c not in b'."\\();@$' else f"\\{c:03}" for c in label))
        at += key[at] + 1
    return ".".join(labels) + "."
