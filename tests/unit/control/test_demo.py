"""The demo's parts; the whole is started by tests/e2e."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from pathlib import Path

import pytest

from penstock.control import demo
from penstock.control.exits import CannotApply
from support import free_port, run


def fetch(port: int, path: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=5) as answer:
        return answer.read()


def test_an_origin_says_who_it_is_and_what_it_got() -> None:
    async def main() -> None:
        port = free_port()
        async with demo.origins([("origin-1", "127.0.0.1", port)]):
            assert await asyncio.to_thread(fetch, port, "/health") == b"ok\n"
            assert await asyncio.to_thread(fetch, port, "/a?b=c") == b"origin-1 got GET /a?b=c, 0 bytes\n"
            posted = await asyncio.to_thread(fetch, port, "/form", b"x" * 100_000)
            assert posted == b"origin-1 got POST /form, 100000 bytes\n"
            headers = json.loads(await asyncio.to_thread(fetch, port, "/headers"))
            assert headers["origin"] == "origin-1"
            assert ["Host", f"127.0.0.1:{port}"] in headers["headers"]

    run(main())


def test_a_port_in_use_is_named_and_the_other_origin_is_closed() -> None:
    async def main() -> None:
        free, taken = free_port(), free_port()
        with socket.create_server(("127.0.0.1", taken)):
            with pytest.raises(CannotApply, match=f"^cannot listen on 127.0.0.1:{taken}: another process does"):
                async with demo.origins([("one", "127.0.0.1", free), ("two", "127.0.0.1", taken)]):
                    pass
            socket.create_server(("127.0.0.1", free)).close()

    run(main())


def test_a_checkout_runs_its_own_file() -> None:
    assert demo.quickstart() == demo.QUICKSTART
    assert demo.QUICKSTART.read_text()


def test_an_installed_package_runs_a_copy_that_its_user_may_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path / "site-packages" / "penstock")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = demo.quickstart()
    assert file == tmp_path / "state" / "penstock" / "quickstart.yaml"
    assert file.read_text() == demo.QUICKSTART.read_text()
    file.write_text("changed: by its user\n")
    assert demo.quickstart().read_text() == "changed: by its user\n"
