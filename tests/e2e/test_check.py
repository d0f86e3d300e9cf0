"""`penstock check`: every mistake of a file in one run, each with its place and what would be right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import PenstockProcess, free_port
from support.certificates import issue
from support.curl import curl


def check(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.control", "check", file.name]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=file.parent)


# After each ### stands what is said of the value or key in front of it.
MISTAKES = """\
network:
  vpc: {name: app, cidr: 10.0.0.0/16}
  subnets:
    - {name: one, cidr: 10.0.1.0/24}
    - {name: two, cidr: 10.0.1.128/25}                    ### cidr: overlaps
    - {name: three, cidr: 10.1.0.0/24}                    ### cidr: not inside
    - {name: four, cidr: 10.0.300.0/24}                   ### cidr: CIDR
load_balancer:
  name: lb
  listners: []                                            ### listners: did you mean "listeners"
  listeners:
    - port: 8080
      protocol: HTTP
      default_action: {forward: tg-web}
      rules:
        - {priority: 1, conditions: {path: [/a]}, action: {forward: tg-wbe}}       ### forward: tg-web
        - {priority: 2, conditions: {path: [/b]}, action: {forward: tg-web}}
        - {priority: 2, conditions: {path: [/c]}, action: {forward: tg-web}}       ### priority: 2
    - {port: 8080, protocol: HTTP, default_action: {forward: tg-web}}              ### port: 8080
    - {port: 8443, protocol: HTTPS, certificate: expired, default_action: {forward: tg-web}}
    - {port: 8444, protocol: HTTPS, certificate: mixed, default_action: {forward: tg-web}}
  target_groups:
    - name: tg-web
      port: eighty                                        ### port: number
      targets: [{ip: 10.0.1.10, port: 80, weight: 1000}]  ### weight: 999
      algorithm: round_robin
      algorithm: weighted_random                          ### algorithm: twice
certificates:
  - {name: expired, cert_file: expired.pem, key_file: expired.key}                 ### cert_file: expired
  - {name: mixed, cert_file: good.pem, key_file: other.key}                        ### key_file: not the key
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    good, other, expired = issue("a.example.org"), issue("a.example.org", key="P-384"), issue("b.example.org", days=0)
    (tmp_path / "good.pem").write_bytes(good.chain_pem)
    (tmp_path / "other.key").write_bytes(other.key_pem)
    (tmp_path / "expired.pem").write_bytes(expired.chain_pem)
    (tmp_path / "expired.key").write_bytes(expired.key_pem)
    return tmp_path


def test_every_mistake_is_told_with_its_place_and_what_would_be_right(folder: Path) -> None:
    file = folder / "penstock.yaml"
    file.write_text(MISTAKES)
    done = check(file)
    assert (done.returncode, done.stdout) == (1, "")
    *told, last = done.stderr.splitlines()
    expected = {
        number: re.fullmatch(r"(.*?)\s*### (\w+): (.*)", line)
        for number, line in enumerate(MISTAKES.splitlines(), 1)
        if "###" in line
    }
    assert last == f"penstock: {len(expected)} mistakes in penstock.yaml"
    for message, (number, match) in zip(told, expected.items(), strict=True):
        assert match is not None
        text, key, words = match.groups()
        place, path, sentence = message.split(": ", 2)
        name, line, column = place.split(":")
        assert (name, int(line)) == ("penstock.yaml", number), message
        assert path.split(".")[-1].split("[")[0] == key, message
        assert words in sentence, message
        at = text[int(column) - 1 :]
        assert at.startswith(key) or text[: int(column) - 1].endswith(f"{key}: "), message


def test_traps_of_yaml_do_what_a_reader_expects(tmp_path: Path) -> None:
    """`no` is Norway, 22:22 is a time of day and not 1342, and 012 is twelve and not ten."""
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    file = tmp_path / "penstock.yaml"
    file.write_text(f"""\
load_balancer:
  name: no
  listeners:
    - port: {port}
      address: 127.0.0.1
      protocol: HTTP
      default_action: {{fixed_response: {{status: 404}}}}
      rules:
        - priority: 012
          conditions: {{header: {{x-time: 22:22}}}}
          action: {{fixed_response: {{status: 200, body: on}}}}
  tags: {{country: no, opened: 2026-11-20}}
admin: {{listen: "{admin}"}}
""")
    assert check(file).stdout == "penstock.yaml: no mistakes; 1 listener, 0 target groups, 0 targets, 0 DNS services\n"
    with PenstockProcess(file, admin=admin) as penstock:
        assert penstock.status()["listeners"][0]["load_balancer"] == "no"
        assert curl("-H", "X-Time: 22:22", f"http://127.0.0.1:{port}/").body == b"on"
        assert b'rule_matches_total{listener="127.0.0.1:%d",rule="12"} 1.0' % port in penstock.get("/metrics")[1]
