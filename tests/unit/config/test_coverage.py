"""Warnings of `penstock check` about what nothing will ever notice, each with its place."""

from __future__ import annotations

import re
from pathlib import Path

from penstock.control.config import load_text

# After ### stands what is said of this line.
TEXT = """\
load_balancer:
  name: lb
  listeners:
    - port: 443
      protocol: HTTPS
      certificates: [one, two]
      default_action: {forward: tg-web}
      rules:
        - {priority: 20, conditions: {path: [/api/v1/*]}, action: {forward: tg-web}}           ### priority: can never match: rule 10 in line 10
        - {priority: 10, conditions: {path: [/api/*]}, action: {forward: tg-web}}
        - {priority: 30, conditions: {host: [www.example.org, "*.example.net"]}, action: {forward: tg-web}}
        - {priority: 40, conditions: {host: [a.b.example.org]}, action: {forward: tg-web}}     ### host[0]: no certificate of this listener is for "a.b.example.org"
        - {priority: 50, conditions: {host: ["w*.example.org", 192.0.2.1]}, action: {forward: tg-web}}
    - port: 80
      protocol: HTTP
      default_action: {forward: tg-web}
      rules:
        - {priority: 1, conditions: {host: ["example.org:80"]}, action: {forward: tg-web}}     ### host[0]: "example.org:80" can never match
  target_groups:
    - {name: tg-web}
    - {name: tg-named}
    - {name: tg-idle}                                                                          ### name: nobody uses tg-idle
certificates:
  - {name: one, self_signed: "*.example.org"}
  - {name: two, self_signed: [a.example.net, 192.0.2.1]}
service_discovery:
  namespaces: [{name: services, services: [{name: web, target_group: tg-named}]}]
security:
  security_groups:
    web:
      ingress:
        - {protocol: tcp, port: 443, source: 203.0.113.0/24}                                   ### source: adds nothing: rule 1 in line 33
        - {protocol: tcp, port: 80-443, source: 0.0.0.0/0}
        - {protocol: udp, port: 443, source: 0.0.0.0/0}
  network_acls:
    edge:
      inbound:
        - {number: 200, protocol: tcp, ports: 443, source: 10.0.0.0/8, action: allow}          ### number: never decides: rule 100 in line 39
        - {number: 100, protocol: all, source: 10.0.0.0/8, action: deny}
        - {number: 300, protocol: all, source: 0.0.0.0/0, action: allow}
      outbound: [{number: 1, protocol: all, destination: 0.0.0.0/0, action: allow}]
dns: {listen: "127.0.0.1:8053"}
"""  # noqa: E501


def test_every_warning_is_told_with_its_place(tmp_path: Path) -> None:
    wanted = {
        number: match.groups()
        for number, line in enumerate(TEXT.splitlines(), 1)
        if (match := re.search(r"### ([\w\[\]]+): (.*)", line))
    }
    warnings = load_text(TEXT, "test.yaml", directory=tmp_path, now=1_800_000_000.0).all_warnings
    assert [warning.line for warning in warnings] == list(wanted)
    for warning, (key, said) in zip(warnings, wanted.values(), strict=True):
        assert warning.path.endswith(f".{key}")
        assert said in warning.message
