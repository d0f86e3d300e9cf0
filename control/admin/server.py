"""The HTTP server of the admin address. It reads the runtime when asked and holds nothing of its own.

It has the same two-phase life as the planes, so that a configuration that moves it either moves it or changes nothing.
It has no password: who can connect can read. That is why it stands on loopback unless somebody asks for more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from ..exits import host_port
from .metrics import registry_of
from .status import status_of

if TYPE_CHECKING:
    from ..runtime import Runtime

log = logging.getLogger("penstock.admin")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A scraper comes every 15-60 s and keeps its connection; what is idle for longer has left. aiohttp's default too.
KEEPALIVE_SECONDS = 75.0
# How long an answer in progress may take once we stop; answers here are made in milliseconds.
SHUTDOWN_SECONDS = 2.0


class Admin:
    """`bound` is the address really listened on, None while there is none."""

    __slots__ = ("_runner", "_server", "bound", "wanted")

    def __init__(self, runtime: Runtime) -> None:
        self._runner = web.AppRunner(
            application(runtime),
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._server: asyncio.Server | None = None
        self.wanted: tuple[str, int] | None = None
        self.bound: tuple[str, int] | None = None

    async def prepare(self, wanted: tuple[str, int] | None) -> PreparedAdmin:
        """Listen on `wanted` beside the present address. OSError with the address in it when that cannot be."""
        if wanted == self.wanted:
            return PreparedAdmin(self, wanted, self._server, self.bound)
        if wanted is None:
            return PreparedAdmin(self, None, None, None)
        if self._runner.server is None:
            await self._runner.setup()
        assert self._runner.server is not None
        address, port = wanted
        try:
            server = await asyncio.get_running_loop().create_server(self._runner.server, address, port)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), host_port(address, port)) from None
        return PreparedAdmin(self, wanted, server, server.sockets[0].getsockname()[:2])

    def replace(self, wanted: tuple[str, int] | None, server: asyncio.Server | None, bound: Any) -> None:
        """Let `server` be the one that listens. Connections to the one before live on until they are idle."""
        before, self._server = self._server, server
        if before is not None and before is not server:
            before.close()
        self.wanted, self.bound = wanted, bound

    @property
    def listening(self) -> asyncio.Server | None:
        return self._server

    async def stop(self) -> None:
        self.replace(None, None, None)
        await self._runner.cleanup()


@dataclass(frozen=True, slots=True)
class PreparedAdmin:
    admin: Admin
    wanted: tuple[str, int] | None
    server: asyncio.Server | None
    bound: tuple[str, int] | None

    def commit(self) -> None:
        self.admin.replace(self.wanted, self.server, self.bound)

    def abort(self) -> None:
        if self.server is not None and self.server is not self.admin.listening:
            self.server.close()


def application(runtime: Runtime) -> web.Application:
    """The routes. Every answer is made from `runtime` as it is at that moment."""
    registry = registry_of(runtime)

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def status(_: web.Request) -> web.Response:
        return _json(status_of(runtime))

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        if runtime.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{runtime.phase}\n")

    app = web.Application(middlewares=[_problems])
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/status", status)
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    return app


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong is answered as a problem document (RFC 9457), and what was our fault is logged."""
    try:
        response = await handler(request)
    except web.HTTPException as problem:
        headers = {"Allow": problem.headers["Allow"]} if "Allow" in problem.headers else {}
        response = _problem(problem.status, f"{request.method} {request.path}", headers)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        response = _problem(500, f"{request.method} {request.path}", {})
    response.headers["Cache-Control"] = "no-store"  # all of it is true for this moment only
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _problem(status: int, detail: str, headers: dict[str, str]) -> web.Response:
    body = {"type": "about:blank", "status": status, "title": HTTPStatus(status).phrase, "detail": detail}
    return _json(body, status=status, content_type="application/problem+json", headers=headers)


def _json(
    body: object, *, status: int = 200, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> web.Response:
    text = json.dumps(body, indent=2, allow_nan=False) + "\n"
    return web.Response(text=text, status=status, content_type=content_type, headers=headers)
