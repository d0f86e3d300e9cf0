"""What stands behind the proxies: two listeners of one nginx, and the certificate that the proxies show in front."""

from __future__ import annotations

import ipaddress
import os
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from servers import BenchError, Server, find_program, free_port, http_answers

# Started as root, nginx would give its rights up and could not read the bench's folder any more.
_USER = "user root;" if os.geteuid() == 0 else ""

_NGINX = """\
{user}
worker_processes 1;
daemon off;
pid {name}.pid;
error_log stderr error;
events {{ worker_connections 16384; {events} }}
http {{
  keepalive_requests 100000000;
  keepalive_timeout 1h;
  client_body_temp_path {name}.body;
  proxy_temp_path {name}.proxy;
  fastcgi_temp_path {name}.fastcgi;
  uwsgi_temp_path {name}.uwsgi;
  scgi_temp_path {name}.scgi;
  {servers}
}}
"""

_ORIGIN = """
  access_log off;
  server {{
    {listen}
    location / {{ default_type text/plain; return 200 "hello world, this is a small body\\n"; }}
    location /big {{ root {folder}; sendfile on; }}
  }}
"""


def write_nginx(folder: Path, name: str, servers: str, events: str = "") -> list[str]:
    """The arguments for an nginx that does what `servers`, the inside of its http block, says."""
    (folder / f"{name}.conf").write_text(_NGINX.format(user=_USER, name=name, servers=servers, events=events))
    return ["-p", str(folder), "-e", "stderr", "-c", f"{name}.conf"]


def start_origin(folder: Path, core: str, stack: ExitStack, addresses: tuple[str, ...] = ()) -> tuple[int, int]:
    """Two ports with a small body everywhere and a file of 1 MiB at /big; the first at `addresses` as well."""
    nginx = find_program("nginx")
    if nginx is None:
        raise BenchError("the origin of the bench is nginx: apt-get install nginx-light")
    ports = free_port(), free_port()
    (folder / "big").write_bytes(b"x" * 2**20)
    bound = [f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", *(f"{address}:{ports[0]}" for address in addresses)]
    listen = "\n    ".join(f"listen {address} backlog=4096;" for address in bound)
    arguments = write_nginx(folder, "origin", _ORIGIN.format(listen=listen, folder=folder), "multi_accept on;")
    origin = Server("origin", [nginx, *arguments], core=core, folder=folder)
    stack.callback(origin.stop)
    origin.wait_until(lambda: all(http_answers(port, "/") for port in ports))
    return ports


def write_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """An ECDSA P-256 certificate for loopback: certificate, key, and both in one file, as HAProxy wants them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    # Load generators say the address they connect to as the server's name, and Caddy has nothing for a name unknown.
    names = [x509.DNSName("localhost"), x509.DNSName("127.0.0.1"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths = folder / "bench.crt", folder / "bench.key", folder / "bench.pem"
    for path, content in zip(paths, (chain, private, chain + private), strict=True):
        path.write_bytes(content)
    return paths
