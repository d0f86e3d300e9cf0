"""A running process whose certificate files change: new connections get the new ones, old ones go on."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from support import Origin, PenstockProcess, free_port, response, serving
from support.certificates import Authority, issue
from support.curl import curl
from support.handshake import Handshake

OLD, NEW = Authority("Example Old"), Authority("Example New")
APP = x509.Name.from_rfc4514_string("CN=app,O=Example")


@dataclass(frozen=True)
class Site:
    folder: Path
    port: int
    origin: Origin
    penstock: PenstockProcess

    def show(self) -> ssl.SSLContext:
        """A certificate that is new; the context trusts it and no other."""
        certificate = issue("localhost")
        (self.folder / "www.pem").write_bytes(certificate.key_pem + certificate.chain_pem)
        return ssl.create_default_context(cadata=certificate.chain_pem.decode())

    def wait_for(self, reloads: int) -> None:
        deadline = time.monotonic() + 10
        while self.penstock.status()["configuration"]["reloads"]["applied"] < reloads:
            assert time.monotonic() < deadline, self.penstock.output()
            time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path) as one:
        yield one


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    port, admin, origin = free_port(), free_port(), Origin(response(b"ok"))
    (folder / "clients.pem").write_bytes(b"# who signs for our clients\n" + OLD.pem)
    with serving(origin):
        file = folder / "penstock.yaml"
        file.write_text(f"""\
load_balancer:
  name: lb
  listeners:
    - port: {port}
      address: 127.0.0.1
      protocol: HTTPS
      certificate: www
      client_certificates: {{mode: optional, ca_file: clients.pem}}
  target_groups: [{{name: tg-web, targets: [{{ip: 127.0.0.1, port: {origin.port}}}]}}]
certificates: [{{name: www, cert_file: www.pem, key_file: www.pem}}]
admin: {{listen: "127.0.0.1:{admin}"}}
shutdown: {{drain: 1s}}
""")
        site = Site(folder, port, origin, PenstockProcess(file, admin=f"127.0.0.1:{admin}"))
        site.show()
        with site.penstock:
            yield site


def get(connection: http.client.HTTPSConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def test_a_renewed_certificate_is_shown_without_a_dropped_connection(site: Site) -> None:
    trusting = site.show()
    site.wait_for(1)
    old = http.client.HTTPSConnection("localhost", site.port, context=trusting)
    assert get(old) == b"ok"
    kept = old.sock
    trusting_new = site.show()
    site.wait_for(2)
    new = http.client.HTTPSConnection("localhost", site.port, context=trusting_new)
    assert get(new) == b"ok"  # verified: it is the new one
    assert get(old) == b"ok"
    assert old.sock is kept
    old.close()
    new.close()


def test_a_server_name_that_is_not_ascii_is_refused_and_nothing_is_printed(site: Site) -> None:
    trusting = site.show()
    site.wait_for(1)
    hello = Handshake(trusting, "localhost").step()
    assert hello.count(b"localhost") == 1
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as client:
        client.sendall(hello.replace(b"localhost", b"\xffocalhost"))
        alert = client.recv(64)
        assert alert.startswith(b"\x15"), "no alert of TLS"
    with closing(http.client.HTTPSConnection("localhost", site.port, context=trusting)) as other:
        assert get(other) == b"ok"
    metrics = site.penstock.get("/metrics")[1].decode()
    assert re.search(r"^penstock_listener_tls_handshakes_failed_total{.*} 1\.0$", metrics, re.MULTILINE), metrics
    assert "Exception" not in site.penstock.output()


def test_authorities_of_clients_are_exchanged(site: Site) -> None:
    known, stranger = (authority.client(site.folder, APP) for authority in (OLD, NEW))
    url = f"https://localhost:{site.port}/"
    curl("-k", "--cert", str(known), url)
    assert site.origin.requests[-1].value(b"X-Amzn-Mtls-Clientcert-Issuer") == b"CN=Example Old"
    assert "unknown ca" in curl("-k", "--cert", str(stranger), url, code=56).said
    (site.folder / "clients.pem").write_bytes(NEW.pem)
    site.wait_for(1)
    curl("-k", "--cert", str(stranger), url)
    assert site.origin.requests[-1].value(b"X-Amzn-Mtls-Clientcert-Subject") == b"CN=app,O=Example"
    curl("-k", "--cert", str(known), url, code=56)
    metrics = site.penstock.get("/metrics")[1].decode()
    [counted] = [line for line in metrics.splitlines() if 'reason="client_certificate_untrusted"' in line]
    assert counted.endswith(" 2.0")


def test_a_revoked_client_is_refused_and_a_new_list_is_taken_up(site: Site) -> None:
    """The file of the listener's authorities is joined by one of what they have revoked."""
    known, lost = (OLD.client(site.folder, APP, serial=serial) for serial in (1, 2))
    url, crl = f"https://localhost:{site.port}/", site.folder / "revoked.pem"
    crl.write_bytes(b"of today\n" + OLD.revoked(7))
    file = site.folder / "penstock.yaml"
    file.write_text(file.read_text().replace("ca_file: clients.pem", "ca_file: clients.pem, crl_file: revoked.pem"))
    site.wait_for(1)
    for certificate in (known, lost):
        curl("-k", "--cert", str(certificate), url)
    crl.write_bytes(OLD.revoked(7, 2))
    site.wait_for(2)
    curl("-k", "--cert", str(known), url)
    assert "revoked" in curl("-k", "--cert", str(lost), url, code=56).said
    metrics = site.penstock.get("/metrics")[1].decode()
    [counted] = [line for line in metrics.splitlines() if 'reason="client_certificate_revoked"' in line]
    assert counted.endswith(" 1.0")
