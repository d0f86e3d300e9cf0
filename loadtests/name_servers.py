"""The name servers of the bench: each answers one name with the same three addresses, on one worker, without a log."""

from __future__ import annotations

import sys
from pathlib import Path

from peers import ADDRESSES, DnsPlan, Peer

_PENSTOCK_DNS = """\
service_discovery:
  namespaces:
    - name: services
      type: private
      routing_policy: multivalue
      ttl: 60s
      services:
        - name: api
          dns_records: [{{type: A, ttl: 60s}}]
          instances:
{instances}
dns:
  listen: ["127.0.0.1:{port}"]
admin: {{listen: "127.0.0.1:{admin}"}}
"""


def _penstock_dns(plan: DnsPlan) -> list[str]:
    instances = [f"            - {{id: i-{n}, ip: {ip}, port: 8080}}" for n, ip in enumerate(ADDRESSES)]
    text = _PENSTOCK_DNS.format(port=plan.port, admin=plan.admin, instances="\n".join(instances))
    (plan.folder / "penstock-dns.yaml").write_text(text)
    return ["-m", "penstock.control", "run", "penstock-dns.yaml"]


def _write_zone(folder: Path) -> Path:
    zone = folder / "services.zone"
    records = "".join(f"api 60 IN A {address}\n" for address in ADDRESSES)
    zone.write_text(
        "$ORIGIN services.\n$TTL 60\n@ IN SOA ns.services. hostmaster.services. 1 3600 600 86400 5\n"
        f"@ IN NS ns.services.\nns IN A 192.0.2.53\n{records}"
    )
    return zone


def _bind(plan: DnsPlan) -> list[str]:
    (plan.folder / "named.conf").write_text(
        f"""\
options {{
  directory "{plan.folder}"; pid-file none; session-keyfile none;
  listen-on port {plan.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; minimal-responses yes; querylog no; dnssec-validation no;
}};
controls {{ }};
zone "services" {{ type primary; file "{_write_zone(plan.folder)}"; }};
"""
    )
    return ["-f", "-n", "1", "-c", str(plan.folder / "named.conf")]


def _knot(plan: DnsPlan) -> list[str]:
    (plan.folder / "knot.conf").write_text(
        f"""\
server:
  listen: 127.0.0.1@{plan.port}
  rundir: "{plan.folder}/knot"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
  - target: stderr
    any: error
database:
  storage: "{plan.folder}/knot"
zone:
  - domain: services
    file: "{_write_zone(plan.folder)}"
    zonefile-sync: -1
    journal-content: none
"""
    )
    (plan.folder / "knot").mkdir()
    return ["-c", str(plan.folder / "knot.conf")]


def _powerdns(plan: DnsPlan) -> list[str]:
    (plan.folder / "zones.conf").write_text(f'zone "services" {{ type native; file "{_write_zone(plan.folder)}"; }};\n')
    (plan.folder / "pdns.conf").write_text(
        f"""\
launch=bind
bind-config={plan.folder}/zones.conf
socket-dir={plan.folder}
local-address=127.0.0.1
local-port={plan.port}
receiver-threads=1
distributor-threads=1
log-dns-queries=no
loglevel=3
security-poll-suffix=
"""
    )
    return [f"--config-dir={plan.folder}", "--daemon=no", "--guardian=no"]


NAME_SERVERS: tuple[Peer[DnsPlan], ...] = (
    Peer("Penstock", sys.executable, "make install", ("-m", "penstock.control", "--version"), _penstock_dns),
    Peer("BIND", "named", "apt-get install bind9", ("-v",), _bind),
    Peer("Knot", "knotd", "apt-get install knot", ("-V",), _knot),
    Peer("PowerDNS", "pdns_server", "apt-get install pdns-server pdns-backend-bind", ("--version",), _powerdns),
)
