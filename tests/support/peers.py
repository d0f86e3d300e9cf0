"""HAProxy and nginx, as near to their defaults as a test allows, each in front of one origin."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .tools import need_tool


async def exchange(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def haproxy(folder: Path, port: int, origin: int, http2: bool) -> list[str]:
    protocol = " proto h2" if http2 else ""
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 2s\n timeout client 2s\n timeout server 2s\n"
        f"frontend f\n bind 127.0.0.1:{port}{protocol}\n default_backend b\n"
        f"backend b\n server s 127.0.0.1:{origin}\n"
    )
    return [need_tool("haproxy", package="haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def nginx(folder: Path, port: int, origin: int, http2: bool) -> list[str]:
    protocol = " http2" if http2 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f" fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f" server {{ listen 127.0.0.1:{port}{protocol}; lingering_close off;\n"
        "  client_header_timeout 2s; client_body_timeout 2s;\n"
        f" location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1;\n"
        "  proxy_set_header Host $http_host;\n"
        " proxy_read_timeout 2s; } } }\n"
    )
    return [need_tool("nginx", package="nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")]


PEERS = {"haproxy": haproxy, "nginx": nginx}


@contextmanager
def in_front(name: str, folder: Path, port: int, origin: int, *, http2: bool = False) -> Iterator[None]:
    """It listens on `port`, for HTTP/1.1 or for HTTP/2 in clear text with prior knowledge, and asks `origin`."""
    command = PEERS[name](folder, port, origin, http2)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with ExitStack() as stack:
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        stack.enter_context(process.stdout)
        for _ in range(200):
            with socket.socket() as probe:
                probe.settimeout(0.05)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.02)
        else:
            raise AssertionError(f"{command[0]} does not listen")
        yield


def compare(
    peer: str, ours: Mapping[str, object], theirs: Mapping[str, object], accepted: Mapping[tuple[str, str], str]
) -> None:
    """Fails with a line for each case that we and the peer see in another way, and of which nobody has said why."""
    differ = [name for name, verdict in ours.items() if verdict != theirs[name] and (peer, name) not in accepted]
    assert not differ, "\n".join(f"{name}: ours {ours[name]}, theirs {theirs[name]}" for name in differ)
