"""The name servers of the bench: each answers the same zone, on one worker, without a log. And forwarders."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from peers import ADDRESSES, DnsPlan, Peer

FOREIGN, FOREIGN_NAMES = "example.org", 1000

# Weights, and a view: the bench is in a network of its own, which sees a namespace that others do not.
_PENSTOCK_DNS = """\
network:
  vpc: {{name: bench, cidr: 10.0.0.0/16}}
service_discovery:
  namespaces:
    - name: services
      type: private
      routing_policy: weighted
      ttl: 60s
      services:
        - name: api
          dns_records: [{{type: A, ttl: 60s}}, {{type: SRV, ttl: 60s}}]
          instances:
{instances}
    - {{name: office, type: private}}
dns:
  listen: ["127.0.0.1:{plan.port}"]
{resolvers}  networks: [{{name: loopback, cidrs: [127.0.0.0/8], namespaces: [office]}}]
workers: {workers}
admin: {{listen: "127.0.0.1:{plan.admin}"}}
"""


def penstock_yaml(plan: DnsPlan, *, workers: int = 1) -> str:
    instances = [
        f"            - {{id: i-{n}, ip: {ip}, port: 8080, weight: {n + 1}}}" for n, ip in enumerate(ADDRESSES)
    ]
    resolvers = f'  resolvers: ["127.0.0.1:{plan.upstream}"]\n' if plan.upstream else ""
    return _PENSTOCK_DNS.format(plan=plan, instances="\n".join(instances), resolvers=resolvers, workers=workers)


def _penstock_dns(plan: DnsPlan) -> list[str]:
    file = plan.folder / f"penstock-dns-{plan.port}.yaml"  # each its own, for it is watched
    file.write_text(penstock_yaml(plan))
    return ["-m", "penstock.control", "run", file.name]


def _write_zone(folder: Path) -> Path:
    zone = folder / "services.zone"
    addresses = "".join(f"api 60 IN A {ip}\ni-{n}.api 60 IN A {ip}\n" for n, ip in enumerate(ADDRESSES))
    targets = "".join(f"api 60 IN SRV 1 {n + 1} 8080 i-{n}.api\n" for n in range(len(ADDRESSES)))
    zone.write_text(f"$ORIGIN services.\n{_START_OF_ZONE}{addresses}{targets}")
    return zone


def write_foreign_zone(folder: Path) -> Path:
    """What is asked through forwarders. It outlives the bench in their caches."""
    zone = folder / "foreign.zone"
    addresses = "".join(f"n{n} 86400 IN A 192.0.2.{n % 250 + 1}\n" for n in range(FOREIGN_NAMES))
    zone.write_text(f"$ORIGIN {FOREIGN}.\n{_START_OF_ZONE}{addresses}")
    return zone


_START_OF_ZONE = """\
$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 5
@ IN NS ns
ns IN A 192.0.2.53
"""


_BIND_OPTIONS = """\
options {{
  directory "{plan.folder}"; pid-file none; session-keyfile none;
  listen-on port {plan.port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  querylog no; dnssec-validation no; {more}
}};
controls {{ }};
"""


def _run_bind(plan: DnsPlan, more: str, zones: str = "") -> list[str]:
    file = plan.folder / f"named-{plan.port}.conf"
    file.write_text(_BIND_OPTIONS.format(plan=plan, more=more) + zones)
    return ["-f", "-n", "1", "-c", str(file)]


def _bind(plan: DnsPlan) -> list[str]:
    zones = {"services": _write_zone(plan.folder), FOREIGN: write_foreign_zone(plan.folder)}
    return _run_bind(
        plan,
        "recursion no; minimal-responses no-auth;",
        "".join(f'zone "{name}" {{ type primary; file "{file}"; }};\n' for name, file in zones.items()),
    )


def _bind_forwarding(plan: DnsPlan) -> list[str]:
    return _run_bind(
        plan,
        f"recursion yes; minimal-responses yes; forward only; forwarders {{ 127.0.0.1 port {plan.upstream}; }};",
    )


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


def _nsd(plan: DnsPlan) -> list[str]:
    (plan.folder / "nsd.conf").write_text(
        f"""\
server:
  ip-address: 127.0.0.1@{plan.port}
  server-count: 1
  username: ""
  chroot: ""
  pidfile: ""
  zonesdir: "{plan.folder}"
  zonelistfile: "{plan.folder}/nsd.list"
  xfrdfile: "{plan.folder}/nsd.xfrd"
  xfrdir: "{plan.folder}"
  verbosity: 0
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: services
  zonefile: "{_write_zone(plan.folder)}"
"""
    )
    return ["-d", "-c", str(plan.folder / "nsd.conf")]


_PENSTOCK = Peer("Penstock", sys.executable, "make install", ("-m", "penstock.control", "--version"), _penstock_dns)
BIND = Peer("BIND", "named", "apt-get install bind9", ("-v",), _bind)

NAME_SERVERS: tuple[Peer[DnsPlan], ...] = (
    _PENSTOCK,
    BIND,
    Peer("Knot", "knotd", "apt-get install knot", ("-V",), _knot),
    Peer("PowerDNS", "pdns_server", "apt-get install pdns-server pdns-backend-bind", ("--version",), _powerdns),
    Peer("NSD", "nsd", "apt-get install nsd", ("-v",), _nsd),
)
FORWARDERS: tuple[Peer[DnsPlan], ...] = (_PENSTOCK, replace(BIND, prepare=_bind_forwarding))
