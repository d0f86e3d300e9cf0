"""Configurations for the control room's tests, on ports that are free."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from penstock.control.config import Settings, load_text
from support import free_port


@dataclass
class Ports:
    http: int = field(default_factory=free_port)
    dns: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)


def text(
    ports: Ports,
    *targets: int,
    weight: int = 1,
    interval: float = 0.1,
    extra: str = "",
    group: str = "",
    drain: str = "1s",
    grace: str = "0s",
) -> str:
    """One HTTP listener, one target group with `targets` on loopback, and its name in DNS."""
    listed = ", ".join(f"{{ip: 127.0.0.1, port: {port}, weight: {weight}}}" for port in targets)
    check = f"{{path: /health, interval: {interval}, timeout: {interval}, unhealthy_threshold: 1}}"
    return f"""\
load_balancer:
  name: lb
  listeners:
    - {{port: {ports.http}, address: 127.0.0.1, protocol: HTTP, default_action: {{forward: tg-web}}}}
  target_groups:
    - {{name: tg-web, health_check: {check}, targets: [{listed}]{group}}}
service_discovery:
  namespaces: [{{name: services, ttl: 5s, services: [{{name: web, target_group: tg-web}}]}}]
dns: {{listen: "127.0.0.1:{ports.dns}"}}
admin: {{listen: "127.0.0.1:{ports.admin}"}}
shutdown: {{grace: {grace}, drain: {drain}}}
{extra}
"""


def settings(source: str, directory: Path) -> Settings:
    return load_text(source, "test.yaml", directory=directory, now=time.time(), materialize=True).settings
