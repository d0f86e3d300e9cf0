"""An origin that is a program of its own, and answers every request with what it received, as JSON.

It stands on the standard library's HTTP server, which shares no line with ours. Paths that begin with /chunked are
answered in chunks, /hop with fields that are for the next hop alone, and each answer counts the connections so far.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

NUMBERS = itertools.count()


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive, and 100 Continue to whoever expects it
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.number = next(NUMBERS)

    def do_GET(self) -> None:
        body = b"".join(self._chunks() if "Transfer-Encoding" in self.headers else [self._content()])
        received: dict[str, Any] = {
            "line": self.requestline,
            "fields": {name.lower(): self.headers.get_all(name) for name in self.headers},
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "connection": self.number,
        }
        answer = json.dumps(received).encode()
        self.send_response(200)
        if self.path == "/hop":
            for name, value in (("Connection", "X-Private"), ("X-Private", "1"), ("Proxy-Authenticate", "Basic")):
                self.send_header(name, value)
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            half = len(answer) // 2
            answer = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (answer[:half], answer[half:], b""))
        else:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Any:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() != b"\r\n":
            pass  # trailers

    def log_message(self, *_: object) -> None:
        pass


class EchoOrigin:
    """`with EchoOrigin() as origin:` listens on `origin.port`; with a PEM file of key and certificate, by TLS."""

    def __init__(self, pem: Path | None = None) -> None:
        self._command = [sys.executable, __file__, *([str(pem)] if pem else [])]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.__exit__()
            raise AssertionError("the origin did not start")
        self.port = int(line)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main(arguments: list[str]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    if arguments:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments[0])
        # Handshakes happen in each connection's own thread, at its first read.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
