"""Penstock's own configurations: security group, network ACL, health checks, request id and metrics are always on.

The sizes that the bench varies are arguments; each is written as people write it, one rule or target a line.
"""

from __future__ import annotations

from dataclasses import dataclass

from peers import HttpPlan

_TEMPLATE = """\
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
    - port: {plan.http}
      address: 127.0.0.1
      protocol: HTTP
      default_action: {{forward: origins}}
      rules:{rules}
    - port: {plan.https}
      address: 127.0.0.1
      protocol: HTTPS
      certificate: bench
      default_action: {{forward: origins}}
  target_groups:
    - name: origins
      protocol: HTTP
      health_check: {{protocol: HTTP, path: /, interval: {interval}}}
      limits: {{connections: 16384}}
      targets:{targets}
certificates:
  - {{name: bench, cert_file: {plan.certificate}, key_file: {plan.key}}}
security:
  security_groups:
    web:
      ingress:{sources}
        - {{port: {plan.http}, protocol: tcp, source: 127.0.0.0/8}}
        - {{port: {plan.https}, protocol: tcp, source: 127.0.0.0/8}}
      egress: [{{port: all, protocol: all, destination: 0.0.0.0/0}}]
  network_acls:
    edge:
      inbound: [{{number: 100, protocol: tcp, ports: all, source: 127.0.0.0/8, action: allow}}]
      outbound: [{{number: 100, protocol: tcp, ports: all, destination: 127.0.0.0/8, action: allow}}]
admin: {{listen: "127.0.0.1:{plan.admin}"}}
shutdown: {{grace: 0s, drain: 1s}}
"""

# Where `generation` is answered: a request that gets N there was served by the configuration with that number.
GENERATION_PATH = "/generation"


@dataclass(frozen=True, slots=True)
class Size:
    """`rules` send one host each to the target group; `sources` are CIDRs before the one that admits the load."""

    rules: int = 0
    sources: int = 0
    targets: int = 0  # beside the origins; at target_addresses()
    workers: int = 1
    interval: str = "5s"  # of health checks; one CPU cannot probe a thousand targets that often and measure requests


def penstock_yaml(plan: HttpPlan, size: Size, generation: int | None = None) -> str:
    rules = [f"{{priority: {n + 2}, conditions: {{host: [h{n}.example.org]}}, action: {{forward: origins}}}}"
             for n in range(size.rules)]  # fmt: skip
    if generation is not None:
        answer = f"{{fixed_response: {{status: 200, body: '{generation}'}}}}"
        rules.insert(0, f"{{priority: 1, conditions: {{path: [{GENERATION_PATH}]}}, action: {answer}}}")
    sources = [f"{{port: {plan.http}, protocol: tcp, source: 198.{18 + n // 65536}.{n // 256 % 256}.{n % 256}/32}}"
               for n in range(size.sources)]  # fmt: skip
    targets = [f"{{ip: 127.0.0.1, port: {port}}}" for port in dict.fromkeys(plan.origins)]
    targets += [f"{{ip: {address}, port: {plan.origins[0]}}}" for address in target_addresses(size.targets)]
    text = _TEMPLATE.format(
        plan=plan,
        interval=size.interval,
        rules=_lines(rules) or " []",
        sources=_lines(sources),
        targets=_lines(targets),
    )
    if plan.log:
        text += "access_log: {file: penstock.log, format: alb}\n"
    return text + f"workers: {size.workers}\n"


def target_addresses(count: int) -> tuple[str, ...]:
    """Addresses of loopback that nobody else in the bench uses."""
    return tuple(f"127.1.{n // 250}.{n % 250 + 1}" for n in range(count))


def _lines(items: list[str]) -> str:
    return "".join(f"\n        - {item}" for item in items)
