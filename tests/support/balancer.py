"""A load balancer in the test's own loop, whose accounts are checked when the test is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from penstock.proxy.health import HealthTable
from penstock.proxy.log_lines import AccessRecord
from penstock.proxy.server import Proxy
from penstock.proxy.specs import (
    FirewallSpec,
    Forward,
    ListenerSpec,
    ProcessLimits,
    ProxySpec,
    RuleSpec,
    TargetGroupSpec,
    TargetSpec,
    WeightedGroup,
)


@dataclass
class Balancer:
    proxy: Proxy
    spec: ProxySpec
    port: int
    log: list[AccessRecord] = field(default_factory=list)

    @property
    def listener(self) -> Any:
        return next(iter(self.proxy.listeners.values()))

    def group(self, name: str = "tg") -> Any:
        return self.proxy.groups[name]

    async def reload(self, **changes: Any) -> None:
        """Change fields of the one listener or of the one target group, as a reload of the file would."""
        listener, group = self.spec.listeners[0], self.spec.target_groups[0]
        of_group = {k: changes.pop(k) for k in list(changes) if k not in ListenerSpec.__dataclass_fields__}
        self.spec = replace(
            self.spec, listeners=(replace(listener, **changes),), target_groups=(replace(group, **of_group),)
        )
        (await self.proxy.prepare(self.spec)).commit()

    async def exchange(self, request: bytes, *, half_close: bool = False) -> bytes:
        """Send, then read until the balancer closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            if half_close:
                writer.write_eof()
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


class _Log:
    """Stands where the access log stands, and keeps records instead of writing them."""

    def __init__(self, records: list[AccessRecord]) -> None:
        self.add = records.append

    def flush(self) -> None:
        """Nothing is held back."""


@asynccontextmanager
async def balancing(
    *targets: int,
    rules: Sequence[RuleSpec] = (),
    group: dict[str, Any] | None = None,
    firewall: FirewallSpec | None = None,
    table: HealthTable | None = None,
    log: bool = True,
    process: ProcessLimits | None = None,
    installed: Mapping[str, type[Any]] = MappingProxyType({}),
    **listener: Any,
) -> AsyncIterator[Balancer]:
    """A listener on a free port that forwards to 127.0.0.1 on the given ports."""
    group_spec = TargetGroupSpec(
        "tg", **{"targets": tuple(TargetSpec("127.0.0.1", port) for port in targets), **(group or {})}
    )
    listener_spec = ListenerSpec(
        **{
            "load_balancer": "lb",
            "address": "127.0.0.1",
            "port": 0,
            "protocol": "HTTP",
            "default_action": Forward((WeightedGroup("tg"),)),
            "rules": tuple(rules),
            "firewall": firewall or FirewallSpec(),
            **listener,
        }
    )
    spec = ProxySpec(
        listeners=(listener_spec,),
        target_groups=(group_spec,),
        group_firewalls=(("tg", firewall),) if firewall else (),
        limits=process or ProcessLimits(),
    )
    records: list[AccessRecord] = []
    proxy = Proxy(table or HealthTable(), access_log=_Log(records) if log else None, seed=1, filters=installed)  # type: ignore[arg-type]
    (await proxy.prepare(spec)).commit()
    balancer = Balancer(proxy, spec, next(iter(proxy.listeners.values())).bound[1], records)
    groups = dict(proxy.groups)
    try:
        yield balancer
    finally:
        await proxy.stop(0)
        groups |= proxy.groups
        for each in groups.values():
            for target in each.targets:
                assert target.in_flight == 0, f"{target!r} was left in flight"
                assert not target.connections, f"{target!r} has connections left"
                assert not target.idle, f"{target!r} has idle connections left"
        for each_listener in proxy.listeners.values():
            assert each_listener.counters.active == 0, f"{each_listener!r} counts connections that are gone"
