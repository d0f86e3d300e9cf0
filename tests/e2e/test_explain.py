"""`penstock explain`, and /explain on the admin address: why a request goes where it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURATION = """\
network:
  vpc: {name: app, cidr: 10.0.0.0/16}
  subnets: [{name: one, cidr: 10.0.1.0/24}]
load_balancer:
  name: app-lb
  subnets: [one]
  security_groups: [web]
  listeners:
    - port: 443
      protocol: HTTPS
      address: 127.0.0.1
      certificates: [default, app]
      default_action: {fixed_response: {status: 404}}
      rules:
        - {priority: 10, conditions: {host: [api.example.org]}, action: {forward: tg}}
        - {priority: 20, conditions: {path: ["/api/*"], header: {x: [z]}}, action: {forward: tg}}
        - {priority: 30, conditions: {path: ["/api/*"], header: {x: [y]}}, action: {forward: tg}}
    - {port: 80, protocol: HTTP, address: 127.0.0.1, default_action: {redirect: {protocol: HTTPS, port: 443}}}
  target_groups: [{name: tg, port: 8080, targets: [{ip: 10.0.1.10}]}]
certificates:
  - {name: default, self_signed: localhost}
  - {name: app, self_signed: "*.example.org"}
security:
  security_groups:
    web: {ingress: [{protocol: tcp, port: 80-443, source: 203.0.113.0/24}]}
  network_acls:
    border:
      inbound: [{number: 100, protocol: tcp, source: 0.0.0.0/0, action: allow}]
      outbound: [{number: 100, protocol: tcp, destination: 0.0.0.0/0, action: allow}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIGURATION)
    return path


def explain(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.control", "explain", "--config", file.name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=file.parent)


def test_every_step_is_a_line(file: Path) -> None:
    done = explain(file, "--src", "203.0.113.9", "GET", "https://app.example.org/api/x", "-H", "x: y")
    assert done.returncode == 0, done.stderr
    assert [tuple(line.split(None, 1)) for line in done.stdout.splitlines()] == [
        ("request", "GET https://app.example.org/api/x from 203.0.113.9"),
        ("listener", "127.0.0.1:443 of app-lb"),
        (
            "allowed",
            "network ACL border inbound: rule 100 allows tcp all ports from 0.0.0.0/0 [acl:border/inbound/100]",
        ),
        (
            "allowed",
            "network ACL border outbound: rule 100 allows tcp all ports to 0.0.0.0/0 [acl:border/outbound/100]",
        ),
        ("allowed", "security group web ingress: rule 0 allows tcp 80-443 from 203.0.113.0/24 [sg:web/ingress/0]"),
        ("certificate", "app"),
        ("rule", '10      no, host is "app.example.org"'),
        ("rule", '20      no, header x is "y"'),
        ("rule", "30      takes it"),
        ("sent", "as      /api/x to app.example.org"),
        ("forward", "tg, 1 of all, by round_robin"),
        ("target", "10.0.1.10:8080 weight 1 may be picked"),
    ]


@pytest.mark.parametrize(
    ("arguments", "misdirected", "certificates"),
    [
        (["https://app.example.org/"], False, ["app"]),
        (["https://localhost/", "-H", "Host: App.example.org:443"], True, ["default"]),
        (["https://app.example.org/", "--sni", "localhost"], True, ["default"]),
        (["https://app.example.org/", "--sni", "www.example.org"], False, ["app"]),
        (["https://unknown.example.net/", "--sni", "app.example.org"], False, ["app"]),
        (["https://app.example.org/", "--sni", ""], False, ["default"]),
        (["https://127.0.0.1/", "-H", "Host: app.example.org"], False, ["default"]),
    ],
)
def test_a_server_name_that_contradicts_the_host_is_told(
    file: Path, arguments: list[str], misdirected: bool, certificates: list[str]
) -> None:
    done = explain(file, "--src", "203.0.113.9", "--json", "GET", *arguments)
    (report,) = json.loads(done.stdout)
    assert (report["misdirected"], report["certificates"]) == (misdirected, certificates)
    assert (report["answer"] == "421", not report["tried"]) == (misdirected, misdirected)
    lines = explain(file, "--src", "203.0.113.9", "GET", *arguments).stdout.splitlines()
    assert any(line.split()[0] == "421" for line in lines) == misdirected


def test_the_same_as_json(file: Path) -> None:
    done = explain(file, "--src", "198.51.100.1", "--json", "GET", "https://app.example.org/")
    (report,) = json.loads(done.stdout)
    assert report["admitted"] is False
    assert report["verdicts"][-1]["rule"] == "sg:web/ingress/default"
    assert report["rule"] == ""
    done = explain(file, "--src", "203.0.113.9", "--json", "GET", "http://app.example.org/a?b")
    (report,) = json.loads(done.stdout)
    assert (report["action"], report["answer"]) == ("redirect", "302 https://app.example.org/a?b")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--src", "203.0.113.9", "GET", "https://app.example.org:8443/"],
            "no listener is on port 8443; listeners: 127",
        ),
        (["--src", "203.0.113.9", "GET", "http://app.example.org:443/"], "127.0.0.1:443 speaks HTTPS, not http"),
        (["--src", "203.0.113.9", "GET", "app.example.org"], "no URL"),
        (["--src", "203.0.113.9", "GET", "http://app.example.org:99999/"], "no URL"),
        (["--src", "203.0.113.999", "GET", "http://app.example.org/"], "no address"),
        (["--src", "203.0.113.9", "G T", "http://app.example.org/"], "no method"),
        (["--src", "203.0.113.9", "GET", "http://app.example.org/", "-H", "x"], "no header field"),
        (["--src", "203.0.113.9", "TRACE", "http://app.example.org/"], "TRACE is answered with 405"),
        (
            ["--src", "203.0.113.9", "GET", "http://app.example.org/", "-H", "Host: a", "-H", "host: b"],
            "two Host fields is answered with 400",
        ),
        (["--src", "203.0.113.9", "--sni", "a", "GET", "http://app.example.org/"], "said in TLS alone"),
        (["--src", "203.0.113.9", "--to", "127.0.0.2", "GET", "http://app.example.org/"], "has the address 127.0.0.2"),
    ],
)
def test_what_cannot_be_explained_is_said(file: Path, arguments: list[str], said: str) -> None:
    done = explain(file, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
