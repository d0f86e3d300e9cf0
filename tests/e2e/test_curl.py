"""What curl says of the HTTP and HTTPS listeners, and what the origin says it was sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import PenstockProcess, free_port
from support.curl import curl
from support.echo import EchoOrigin

# More than every buffer on the way together, and no multiple of any.
UPLOAD = bytes(range(256)) * (3 << 12) + b"the end"

POLICIES = {
    "https": "TLS-1-2",
    "only13": "ELBSecurityPolicy-TLS13-1-3-2021-06",
    "only12": "ELBSecurityPolicy-TLS-1-2-2017-01",
    "old": "ELBSecurityPolicy-2016-08",
}


@dataclass
class Site:
    ports: dict[str, int]
    certificates: Path

    def url(self, listener: str, path: str = "/") -> str:
        return f"{'http' if listener == 'http' else 'https'}://localhost:{self.ports[listener]}{path}"

    def trusting(self, certificate: str) -> tuple[str, str]:
        return "--cacert", str(self.certificates / f"{certificate}.pem")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("curl")
    ports = {name: free_port() for name in ("http", *POLICIES)}
    admin = f"127.0.0.1:{free_port()}"
    secure = "".join(
        f"    - {{port: {ports[name]}, address: 127.0.0.1, protocol: HTTPS, ssl_policy: {policy}, "
        f"certificate: dev, certificates: [www, wild], default_action: {{forward: tg-web}}}}\n"
        for name, policy in POLICIES.items()
    )
    with EchoOrigin() as origin:
        file = folder / "penstock.yaml"
        file.write_text(f"""\
load_balancer:
  name: app-lb
  listeners:
    - port: {ports["http"]}
      address: 127.0.0.1
      protocol: HTTP
      default_action: {{forward: tg-web}}
      rules:
        - priority: 10
          conditions: {{path: ["/api/*"], host: [api.example.org], method: [GET, POST]}}
          action: {{forward: tg-api}}
        - priority: 20
          conditions: {{path: ["/old/*"]}}
          action: {{redirect: {{status: 301, path: "/new/#{{path}}"}}}}
        - priority: 30
          conditions: {{header: {{x-canary: ["yes"]}}}}
          action: {{forward: [{{target_group: tg-web, weight: 0}}, {{target_group: tg-api, weight: 10}}]}}
        - priority: 40
          conditions: {{path: [/teapot]}}
          action: {{fixed_response: {{status: 418, content_type: text/plain, body: "no coffee\\n"}}}}
{secure}
  target_groups:
    - {{name: tg-web, targets: [{{ip: 127.0.0.1, port: {origin.port}}}]}}
    - {{name: tg-api, targets: []}}
certificates:
  - {{name: dev, self_signed: [localhost, example.org]}}
  - {{name: www, self_signed: [www.example.org]}}
  - {{name: wild, self_signed: ["*.api.example.org"]}}
admin: {{listen: "{admin}"}}
""")
        with PenstockProcess(file, admin=admin):
            yield Site(ports, folder / ".penstock" / "certificates")


def fields(answer: Any) -> dict[str, list[str]]:
    return answer.json["fields"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_connections_are_kept_on_both_sides(site: Site) -> None:
    told = curl("-w", " %{num_connects} %{http_version}\n", site.url("http", "/1"), site.url("http", "/2")).text
    first, second = told.splitlines()
    assert first.endswith(" 1 1.1"), "curl opened one connection"
    assert second.endswith(" 0 1.1"), "and used it again"
    assert re.findall(r'"line": "(.*?)"', told) == ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1"]
    assert len(set(re.findall(r'"connection": (\d+)', told))) == 1, "the origin saw one connection too"


@pytest.mark.parametrize("listener", ["http", "https"])
def test_the_origin_is_told_who_asked_and_how(site: Site, listener: str) -> None:
    sent = fields(curl(*site.trusting("dev"), site.url(listener)))
    assert sent["x-forwarded-for"] == ["127.0.0.1"]
    assert sent["x-forwarded-proto"] == [listener]
    assert sent["x-forwarded-port"] == [str(site.ports[listener])]
    assert sent["host"] == [f"localhost:{site.ports[listener]}"]


def test_what_earlier_proxies_said_is_kept_and_what_a_client_claims_is_not(site: Site) -> None:
    claims = ["-H", "X-Forwarded-For: 192.0.2.7", "-H", "X-Forwarded-Proto: https", "-H", "X-Forwarded-Port: 1"]
    sent = fields(curl(*claims, site.url("http")))
    assert sent["x-forwarded-for"] == ["192.0.2.7, 127.0.0.1"]
    assert sent["x-forwarded-proto"] == ["http"]
    assert sent["x-forwarded-port"] == [str(site.ports["http"])]


def test_fields_for_the_next_hop_alone_go_no_further(site: Site) -> None:
    names = ("X-Secret", "Keep-Alive", "TE", "Proxy-Connection", "Upgrade")
    asked = [part for name in names for part in ("-H", f"{name}: 1")]
    answer = curl("-v", *asked, "-H", "Connection: X-Secret, close", site.url("http", "/hop"))
    sent = fields(answer)
    assert not {name.lower() for name in names} & set(sent)
    assert "close" not in sent.get("connection", [""])[0], "the client ends its own connection, not ours to the origin"
    received = answer.said.lower()
    assert "< x-private" not in received
    assert "< connection: x-private" not in received


@pytest.mark.parametrize("listener", ["http", "https"])
def test_an_upload_waits_for_100_continue_and_gets_it_from_the_origin(
    site: Site, listener: str, tmp_path: Path
) -> None:
    file = tmp_path / "body"
    file.write_bytes(UPLOAD)
    patience = ["--expect100-timeout", "30"]  # more than curl has in all: without a 100 it fails
    expecting = ["-H", "Expect: 100-continue", "--data-binary", f"@{file}"]
    answer = curl("-v", "--http1.1", *patience, *expecting, *site.trusting("dev"), site.url(listener))
    assert "< HTTP/1.1 100 Continue" in answer.said
    assert "< HTTP/1.1 200 OK" in answer.said
    assert (answer.json["size"], answer.json["sha256"]) == (len(UPLOAD), sha256(UPLOAD))


@pytest.mark.parametrize("listener", ["http", "https"])
def test_chunks_both_ways(site: Site, listener: str) -> None:
    answer = curl("-v", "--http1.1", "-T", "-", *site.trusting("dev"), site.url(listener, "/chunked"), input=UPLOAD)
    assert fields(answer)["transfer-encoding"] == ["chunked"]
    assert "content-length" not in fields(answer)
    assert (answer.json["size"], answer.json["sha256"]) == (len(UPLOAD), sha256(UPLOAD))
    assert "< Transfer-Encoding: chunked" in answer.said


def test_http_1_0(site: Site) -> None:
    answer = curl("-0", "-v", site.url("http", "/chunked"), site.url("http"))
    assert "transfer-encoding" not in answer.said.lower(), "HTTP/1.0 knows no chunks: the end is the end"
    assert answer.text.count('"line"') == 2
    assert '"GET /chunked HTTP/1.1"' in answer.text, "to the origin we speak HTTP/1.1 all the same"


def test_head_has_the_fields_of_get_and_no_body(site: Site) -> None:
    answer = curl("-I", "-w", "%{num_connects}\n", site.url("http", "/1"), site.url("http", "/2"))
    got = len(curl(site.url("http", "/1")).body)
    lengths = [int(length) for length in re.findall(r"Content-Length: (\d+)", answer.text)]
    # The answer repeats the request line, which is a letter longer here than for GET.
    assert all(abs(length - got) <= 1 for length in lengths)
    assert len(lengths) == 2
    assert re.findall(r"^(\d)$", answer.text, re.MULTILINE) == ["1", "0"], "the connection is still in step"


def test_the_form_that_is_sent_to_proxies(site: Site) -> None:
    through = f"http://127.0.0.1:{site.ports['http']}"
    answer = curl("--proxy", through, "http://app.example.org/page?q=1")
    assert answer.json["line"] == "GET /page?q=1 HTTP/1.1"
    assert fields(answer)["host"] == ["app.example.org"]


def test_rules_choose(site: Site) -> None:
    def status(path: str, *arguments: str) -> str:
        return curl("-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", *arguments, site.url("http", path)).text

    api = ["-H", "Host: api.example.org"]
    assert status("/api/1", *api) == "503 ", "tg-api has no target"
    assert status("/api/1", *api, "-d", "") == "503 ", "a POST"
    assert status("/api/1", *api, "-X", "DELETE") == "200 "
    assert status("/api/1") == "200 ", "another host"
    assert status("/", "-H", "X-Canary: YES") == "503 "
    assert status("/", "-H", "X-Canary: no") == "200 "
    assert status("/old/page?q=1") == f"301 {site.url('http', '/new/old/page?q=1')}"
    assert status("/teapot") == "418 "
    assert curl(site.url("http", "/teapot")).text == "no coffee\n"


def test_https_with_the_development_certificate_and_alpn(site: Site) -> None:
    for asked, spoken in (("--http1.1", "http/1.1"), ("--http2", "h2")):
        answer = curl("-v", asked, *site.trusting("dev"), site.url("https", "/page"))
        assert answer.json["line"] == "GET /page HTTP/1.1", "the target speaks what it spoke"
        assert f"ALPN: server accepted {spoken}" in answer.said


@pytest.mark.parametrize("listener", ["http", "https"])
def test_http2_up_and_down(site: Site, listener: str) -> None:
    asked = "--http2" if listener == "https" else "--http2-prior-knowledge"
    answer = curl("-v", asked, "-T", "-", *site.trusting("dev"), site.url(listener, "/chunked"), input=UPLOAD)
    assert "< HTTP/2 200" in answer.said
    assert (answer.json["size"], answer.json["sha256"]) == (len(UPLOAD), sha256(UPLOAD))


def test_a_self_signed_certificate_is_not_trusted_unasked(site: Site) -> None:
    refused = curl(site.url("https"), code=60)
    assert "self-signed certificate" in refused.said


@pytest.mark.parametrize(
    ("listener", "maximum", "spoken"),
    [
        ("https", "1.1", None),
        ("https", "1.2", "TLSv1.2"),
        ("https", "1.3", "TLSv1.3"),
        ("only13", "1.2", None),
        ("only13", "1.3", "TLSv1.3"),
        ("only12", "1.1", None),
        ("only12", "1.3", "TLSv1.2"),
        ("old", "1.1", "TLSv1.1"),
    ],
)
def test_the_policy_says_which_versions_are_spoken(site: Site, listener: str, maximum: str, spoken: str | None) -> None:
    # Debian's OpenSSL would refuse TLS 1.1 by itself; here it is the server's turn to do so.
    willing = ["--tlsv1.0", "--tls-max", maximum, "--ciphers", "DEFAULT@SECLEVEL=0"]
    answer = curl("-v", *willing, *site.trusting("dev"), site.url(listener), code=35 if spoken is None else 0)
    assert (f"SSL connection using {spoken} / " in answer.said) == (spoken is not None)


def test_a_client_that_the_policy_turns_away_is_told_why(site: Site) -> None:
    """By TLS's own alert, and not by a connection that just ends."""
    answer = curl("--tls-max", "1.2", *site.trusting("dev"), site.url("only13"), code=35)
    assert "alert protocol version" in answer.said


@pytest.mark.parametrize(
    ("name", "certificate"),
    [
        ("localhost", "dev"),
        ("example.org", "dev"),
        ("www.example.org", "www"),
        ("v2.api.example.org", "wild"),
        ("WWW.EXAMPLE.ORG", "www"),
    ],
)
def test_the_certificate_is_the_one_for_the_name(site: Site, name: str, certificate: str) -> None:
    port = site.ports["https"]
    to_us = ["--resolve", f"{name}:{port}:127.0.0.1"]
    curl(*to_us, *site.trusting(certificate), f"https://{name}:{port}/")
    for other in {"dev", "www", "wild"} - {certificate}:
        curl(*to_us, *site.trusting(other), f"https://{name}:{port}/", code=60)


def test_a_name_that_no_certificate_is_for_gets_the_first(site: Site) -> None:
    port = site.ports["https"]
    to_us = ["--resolve", f"unknown.example.net:{port}:127.0.0.1"]
    answer = curl("-v", *to_us, *site.trusting("dev"), f"https://unknown.example.net:{port}/", code=60)
    assert "no alternative certificate subject name matches" in answer.said
