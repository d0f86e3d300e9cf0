"""What aiohttp may say in our log: a bug of ours, and not each client that speaks no HTTP, which has had its 400."""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError


def keep_clients_mistakes_out() -> None:
    """For all servers of this process; said twice it does no more."""
    logging.getLogger("aiohttp.server").addFilter(_is_no_clients_mistake)


def _is_no_clients_mistake(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, HttpProcessingError)
