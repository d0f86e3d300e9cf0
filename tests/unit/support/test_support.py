"""The helpers of the tests are code that every other test believes: each claim they make is shown to bite."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support import Origin, free_port, hang, need_tool, reset, response, run, serving

TESTS = Path(__file__).parents[2]


def test_run_returns_what_the_coroutine_returns() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert run(answer()) == 42


def test_run_fails_on_a_task_left_running() -> None:
    async def forgetful() -> None:
        asyncio.get_running_loop().create_task(asyncio.Event().wait(), name="left behind")

    with pytest.raises(AssertionError, match="left behind"):
        run(forgetful())


def test_run_waits_for_a_task_that_is_about_to_end() -> None:
    async def tidy() -> None:
        asyncio.get_running_loop().create_task(asyncio.sleep(0.01))

    run(tidy())


def test_run_fails_on_an_error_that_only_the_loop_saw() -> None:
    async def careless() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)

    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(careless())


def test_run_has_a_deadline() -> None:
    with pytest.raises(TimeoutError):
        run(asyncio.sleep(60), timeout=0.01)


def test_free_port_can_be_bound_for_tcp_and_udp() -> None:
    port = free_port()
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", port))


def test_a_missing_tool_is_a_skip_that_names_the_package() -> None:
    with pytest.raises(pytest.skip.Exception, match="apt-get install penstock-imaginary-tools"):
        need_tool("penstock-imaginary-tool", package="penstock-imaginary-tools")
    assert Path(need_tool("sh", package="dash")).is_absolute()


async def exchange(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(65536), 5)
    finally:
        writer.close()
        await writer.wait_closed()


def test_origin_follows_its_script_and_remembers_every_byte() -> None:
    chunked = b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    sized = b"PUT /c HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"

    async def talk() -> None:
        async with Origin(response(b"one"), response(b"two", status=201, headers=[("X-A", "b")])) as origin:
            assert (await exchange(origin.port, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")).endswith(b"\r\n\r\none")
            assert (await exchange(origin.port, chunked)).startswith(b"HTTP/1.1 201")
            assert b"X-A: b\r\n" in await exchange(origin.port, sized)
        assert [(r.method, r.target, r.body, r.connection) for r in origin.requests] == [
            (b"GET", b"/a", b"", 0),
            (b"POST", b"/b", b"abc", 1),
            (b"PUT", b"/c", b"hi", 2),
        ]
        assert origin.requests[1].wire == chunked
        assert origin.requests[2].value(b"HOST") == b"a"

    run(talk())


def test_origin_can_reset_and_can_hang() -> None:
    async def talk() -> None:
        get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        async with Origin(reset, hang) as origin:
            with pytest.raises(ConnectionResetError):
                await exchange(origin.port, get)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await exchange(origin.port, get)

    run(talk())


def test_origins_serve_a_blocking_test_from_a_thread() -> None:
    origin = Origin(response(b"from a thread"))
    with serving(origin), socket.create_connection(("127.0.0.1", origin.port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).endswith(b"from a thread")


CASES = {
    "descriptor": ("def test_it():\n    import os\n    os.open('/dev/null', os.O_RDONLY)\n", "left open"),
    "tidy": ("def test_it():\n    pass\n", "1 passed"),
    "skip": ("import pytest\ndef test_it():\n    pytest.skip('no dig')\n", "this was skipped: Skipped: no dig"),
    "module": ("import pytest\npytest.skip('all of it', allow_module_level=True)\n", "was skipped: Skipped: all of"),
    "socket": ("def test_it():\n    import socket\n    socket.socket()\n", "unclosed <socket"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rules_for_every_test_bite(case: str, tmp_path: Path) -> None:
    source, expected = CASES[case]
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_case.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path,
        env={**os.environ, "PENSTOCK_NO_SKIPS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if case == "tidy" else 2 if case == "module" else 1)
