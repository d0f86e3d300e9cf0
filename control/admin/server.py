"""The HTTP server of the admin address. It asks the runtime and holds nothing of its own.

It has the same two-phase life as the planes, so that a configuration that moves it either moves it or changes nothing.
It has no password: who can connect can read. That is why it stands on loopback unless somebody asks for more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from ...dns.aiohttp_log import keep_clients_mistakes_out
from ..change import UNCHANGED, Change, Prepared
from ..exits import host_port
from ..explain_dns import explain_names
from .discovery import BODY_LIMIT, add_discovery
from .metrics import Collected, registry_of
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

    __slots__ = ("_runner", "_server", "_wanted")

    def __init__(self, runtime: Runtime) -> None:
        keep_clients_mistakes_out()
        self._runner = web.AppRunner(
            application(runtime),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # who waits for a change and leaves gives up his place at once
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._wanted: tuple[str, int] | None = None
        self._server: asyncio.Server | None = None

    @property
    def bound(self) -> tuple[str, int] | None:
        return None if self._server is None else self._server.sockets[0].getsockname()[:2]

    async def prepare(self, wanted: tuple[str, int] | None) -> Prepared:
        """Listen on `wanted` beside the present address. OSError with the address in it when that cannot be."""
        if wanted == self._wanted:
            return UNCHANGED
        server = None if wanted is None else await self._listen(*wanted)

        def commit() -> None:
            """Connections to the address before live on until they are idle."""
            if self._server is not None:
                self._server.close()
            self._wanted, self._server = wanted, server

        return Change(commit, abort=lambda: server.close() if server is not None else None)

    async def _listen(self, address: str, port: int) -> asyncio.Server:
        if self._runner.server is None:
            await self._runner.setup()
        assert self._runner.server is not None
        try:
            return await asyncio.get_running_loop().create_server(self._runner.server, address, port)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), host_port(address, port)) from error

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._runner.cleanup()


def application(runtime: Runtime) -> web.Application:
    """The routes. Every answer is made from `runtime` as it is at that moment."""
    registry = registry_of(runtime)

    async def metrics(request: web.Request) -> web.Response:
        await runtime.look()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # Reading a thousand targets takes some 15 ms, writing them out five times that: not while traffic waits.
        body = await asyncio.to_thread(encode, Collected(registry))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def status(_: web.Request) -> web.Response:
        await runtime.look()
        return _json(status_of(runtime))

    async def explain(request: web.Request) -> web.Response:
        report = await runtime.explain(request.match_info["id"].encode())
        if report is None:
            raise web.HTTPNotFound
        return _json(report)

    async def names(request: web.Request) -> web.Response:
        try:
            return _json(explain_names(runtime, request.query))
        except ValueError as error:
            raise web.HTTPBadRequest(reason=str(error)) from None

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        runtime.readiness_asked = time.monotonic()
        if runtime.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{runtime.phase}\n")

    app = web.Application(middlewares=[_problems], client_max_size=BODY_LIMIT)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/status", status)
    app.router.add_get("/explain/{id}", explain)
    app.router.add_get("/dns/explain", names)
    add_discovery(app, runtime, _json, _mistaken)
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
    response.headers["Server"] = "penstock"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _mistaken(status: int, *mistakes: str, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    return _problem(status, "; ".join(mistakes), dict(headers), mistakes=mistakes)


def _problem(status: int, detail: str, headers: dict[str, str], **more: object) -> web.Response:
    body = {"type": "about:blank", "status": status, "title": HTTPStatus(status).phrase, "detail": detail, **more}
    return _json(body, status=status, content_type="application/problem+json", headers=headers)


def _json(
    body: object, *, status: int = 200, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> web.Response:
    text = json.dumps(body, indent=2, allow_nan=False) + "\n"
    return web.Response(text=text, status=status, content_type=content_type, headers=headers)
