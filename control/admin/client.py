"""Ask a running process what it does. Plain http.client: a status command should be there at once."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode

TIMEOUT = 5.0


class NoAnswerError(Exception):
    """Nobody answers there, or not Penstock. The message is a sentence."""


def get_status(admin: str) -> dict[str, Any]:
    """`/status` of the process whose admin address is `admin`, as `127.0.0.1:9900` or `[::1]:9900`."""
    status = _get(admin, "/status")
    if not isinstance(status, dict) or "target_groups" not in status:
        raise NoAnswerError(f"what answers on {admin} is not Penstock's admin address")
    return status


def get_names(admin: str, **query: str) -> list[dict[str, Any]]:
    """`/dns/explain`. NoAnswerError also when the question is refused."""
    reports = _get(admin, f"/dns/explain?{urlencode(query)}")
    if not isinstance(reports, list):
        raise NoAnswerError(f"what answers on {admin} is not Penstock's admin address")
    return reports


def _get(admin: str, path: str) -> Any:
    host, port = _split(admin)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except ConnectionRefusedError:
        raise NoAnswerError(
            f"nothing listens on {admin}: is penstock running, with `admin: {{listen: {_in_yaml(host, port)}}}` in its "
            "configuration?"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoAnswerError(f"no answer from {admin}: {why}") from None
    finally:
        connection.close()
    try:
        found = json.loads(body) if answer.status == 200 else None
    except ValueError:
        return None
    return found


def _split(admin: str) -> tuple[str, int]:
    host, _, port = admin.removeprefix("http://").removesuffix("/").rpartition(":")  # as it is written for curl, too
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise NoAnswerError(f"{admin!r} is not an address and a port, such as 127.0.0.1:9900")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _in_yaml(host: str, port: int) -> str:
    return f'"[{host}]:{port}"' if ":" in host else f"{host}:{port}"
