"""The access log's file: one line per request or relayed connection, written in batches.

The data path appends a record and goes on; lines are formatted together when a batch is full or the owner's timer calls
`flush`. Whatever goes wrong with the file stays here: it is counted, said once, and no connection notices.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from .log_lines import AccessRecord, Format, alb_line, json_line
from .usual_lines import Usual, usual_alb, usual_json

logger = logging.getLogger(__name__)

# About 64 KiB of lines: one write for as much as a page-cache copy is worth, 0.5 ms of formatting at a time.
BATCH_RECORDS = 128

_FORMATTERS: dict[Format, tuple[Callable[[AccessRecord], bytes], Callable[[Usual], bytes]]] = {
    "json": (json_line, usual_json),
    "alb": (alb_line, usual_alb),
}


class AccessLog:
    """The file. Opening it may raise OSError; after that nothing does.

    `lines` counts what was written, `lost` what could not be.
    """

    __slots__ = ("_fd", "_line", "_pending", "_torn", "_troubled", "_usual_line", "format", "lines", "lost", "path")

    def __init__(self, path: str, format: Format = "json") -> None:
        self.path = path
        self.lines = 0
        self.lost = 0
        self.format: Format = format
        self._line, self._usual_line = _FORMATTERS[format]
        self._pending: list[AccessRecord | Usual] = []
        self._troubled = False
        self._torn = False  # the file ends in a part of a line: the disk filled up in the middle of one
        self._fd: int | None = _open(path)

    def add(self, record: AccessRecord | Usual) -> None:
        self._pending.append(record)
        if len(self._pending) >= BATCH_RECORDS:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            records, self._pending = self._pending, []
            self._write(b"".join(map(self._format, records)))

    def _format(self, record: AccessRecord | Usual) -> bytes:
        return self._line(record) if isinstance(record, AccessRecord) else self._usual_line(record)

    def reopen(self) -> None:
        """After the file was moved away (log rotation). If the new one cannot be opened, the old one goes on."""
        self.flush()
        try:
            fd = _open(self.path)
        except OSError as error:
            self._trouble(f"cannot be opened again: {error.strerror}; going on in the old file")
            return
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
        self._torn = False

    def close(self) -> None:
        self.flush()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _write(self, text: bytes) -> None:
        if self._fd is None:
            self.lost += text.count(b"\n")
            return
        if self._torn:
            text = b"\n" + text
        written = 0
        failure = None
        try:
            while written < len(text):
                written += os.write(self._fd, memoryview(text)[written:])
        except OSError as error:  # disk full, quota, the other end of a pipe gone
            failure = error.strerror
        self._torn = self._torn if written == 0 else not text.endswith(b"\n", 0, written)
        whole = text.count(b"\n", 0, written) - text.startswith(b"\n", 0, written)  # the first may end a torn line
        self.lines += whole
        self.lost += text.count(b"\n", written) - (written == 0 and text.startswith(b"\n"))
        if failure is not None:
            self._trouble(f"cannot be written: {failure}; lines are lost until it can")
        elif self._troubled:
            self._troubled = False
            logger.warning("access log %s is written again; %d lines were lost so far", self.path, self.lost)

    def _trouble(self, what: str) -> None:
        if not self._troubled:
            self._troubled = True
            logger.warning("access log %s %s", self.path, what)


def _open(path: str) -> int:
    # 0640: addresses of clients are for the operator's group to read, and for nobody else.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


class Nowhere:
    """Stands where a log would, when only filters want its records."""

    def add(self, record: AccessRecord | Usual) -> None:
        """They have had it."""


NOWHERE = Nowhere()
