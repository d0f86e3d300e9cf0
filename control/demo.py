"""`penstock demo`: two sample origins and the quickstart in front of them, in one process, with commands to paste.

The quickstart is the file configs/quickstart.yaml: it can be changed while this runs, and what it says then is done.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from .exits import CannotApply, cannot_listen, host_port
from .process import listening, run_to_the_end, serve

if TYPE_CHECKING:
    from .runtime import Runtime

# Beside us in a checkout and in the installed package alike: pyproject.toml maps both folders the same way.
ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / "configs" / "quickstart.yaml"

ORIGINS = (("origin-1", "127.0.0.1", 9001), ("origin-2", "127.0.0.1", 9002))


def run_demo() -> None:
    run_to_the_end(_demo())


async def _demo() -> None:
    file = quickstart()
    async with origins(ORIGINS):
        await serve(file, announce=lambda runtime: print(welcome(file, runtime), flush=True))


def quickstart() -> Path:
    """The file to run. In a checkout it is the repository's; installed it is a copy that the user may change."""
    if (ROOT / "pyproject.toml").exists():
        return QUICKSTART
    copy = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "penstock" / QUICKSTART.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(QUICKSTART.read_bytes())
    return copy


@asynccontextmanager
async def origins(wanted: Iterable[tuple[str, str, int]]) -> AsyncIterator[None]:
    """Small web servers that say who answered. CannotApply if a port is taken; all are closed at the end."""
    runners: list[web.AppRunner] = []
    try:
        for name, address, port in wanted:
            runner = web.AppRunner(_origin(name), access_log=None, handle_signals=False, shutdown_timeout=1.0)
            runners.append(runner)
            await runner.setup()
            try:
                await web.TCPSite(runner, address, port).start()
            except OSError as error:
                error.filename = host_port(address, port)
                raise CannotApply(cannot_listen(error)) from error
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


def _origin(name: str) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def headers(request: web.Request) -> web.Response:
        return web.json_response({"origin": name, "headers": [list(pair) for pair in request.headers.items()]})

    async def echo(request: web.Request) -> web.Response:
        size = len(await request.read())
        return web.Response(text=f"{name} got {request.method} {request.path_qs}, {size} bytes\n")

    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/health", health)
    app.router.add_get("/headers", headers)
    app.router.add_route("*", "/{path:.*}", echo)
    return app


def welcome(file: Path, runtime: Runtime) -> str:
    """Where everything listens, and what to paste into another terminal."""
    lines = ["", "Penstock's quickstart runs.", ""]
    lines += [f"  {line}" for line in listening(runtime)]
    lines += [f"  listening on {host_port(address, port)} (sample origin {name})" for name, address, port in ORIGINS]
    lines += ["", "Paste into another terminal:", ""]
    lines += [f"  {command}" for command in commands(runtime)]
    lines += ["", f"Change {_short(file)} and watch it reload. Ctrl-C stops.", ""]
    return "\n".join(lines)


def commands(runtime: Runtime) -> list[str]:
    """One for each thing that the quickstart shows: HTTP, HTTPS, an address record, a service record."""
    assert runtime.settings is not None
    listeners = {listener.spec.protocol: listener for listener in runtime.proxy.listeners.values()}
    http, https = listeners["HTTP"], listeners["HTTPS"]
    certificate = runtime.settings.state_directory / "certificates" / f"{https.spec.certificates[0].name}.pem"
    address, port = runtime.dns.bound[0]
    namespace = runtime.settings.dns.namespaces[0]
    name = f"{namespace.services[0].name}.{namespace.names[0]}"
    return [
        f"curl http://{host_port(*http.bound)}/",
        f"curl --cacert {_short(certificate)} https://localhost:{https.bound[1]}/",
        f"dig @{address} -p {port} {name}. A",
        f"dig @{address} -p {port} {name}. SRV",
    ]


def _short(path: Path) -> str:
    """As one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else shlex.quote(relative)
