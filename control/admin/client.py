"""Ask a running process what it does. Plain http.client: a status command should be there at once."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

TIMEOUT = 5.0


class NoAnswerError(Exception):
    """Nobody answers there, or not Penstock. The message is a sentence."""


class RefusedError(Exception):
    """It was understood and not done. Each of the arguments is a sentence that says why."""


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


def change(admin: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is answered to a request that changes something. RefusedError if it is not done."""
    status, answer = _ask(admin, method, path, body)
    if isinstance(answer, dict) and status in (200, 201):
        return answer
    if isinstance(answer, dict) and isinstance(answer.get("mistakes"), list):
        raise RefusedError(*answer["mistakes"])
    raise NoAnswerError(f"what answers on {admin} is not Penstock's admin address, or is an older one")


def instance_path(name: str, instance_id: str) -> str:
    """Of `api.services`: the service is the first label, the namespace is the rest."""
    service, dot, namespace = name.removesuffix(".").partition(".")
    if not (service and dot and namespace):
        raise RefusedError(f"{name!r} is no service with its namespace, such as api.services")
    parts = ("namespaces", namespace, "services", service, "instances", instance_id)
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _get(admin: str, path: str) -> Any:
    status, found = _ask(admin, "GET", path)
    return found if status == 200 else None


def _ask(admin: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and what the answer's JSON says; None if it is none."""
    host, port = _split(admin)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = connection.getresponse()
        content = answer.read()
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
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, None


def _split(admin: str) -> tuple[str, int]:
    host, _, port = admin.removeprefix("http://").removesuffix("/").rpartition(":")  # as it is written for curl, too
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise NoAnswerError(f"{admin!r} is not an address and a port, such as 127.0.0.1:9900")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _in_yaml(host: str, port: int) -> str:
    return f'"[{host}]:{port}"' if ":" in host else f"{host}:{port}"
