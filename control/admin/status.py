"""What `/status` says and `penstock status` shows: the state of everything, as plain JSON values.

Health is told in ALB's states and reason codes (DescribeTargetHealth), so that a script which knows them can read ours.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...dns.instances import is_up
from ...dns.query_log import name_text
from ..exits import host_port
from ..version import VERSION

if TYPE_CHECKING:
    from ...dns.specs import InstanceSpec
    from ...proxy.server import AnyListener, Proxy
    from ...proxy.targets import Target, TargetGroup
    from ..runtime import Runtime

Json = dict[str, Any]

TOP_NAMES_SHOWN = 20

# ALB's codes for the states that no health check decides.
DEREGISTRATION = ("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress.")
DISABLED = ("unavailable", "Target.HealthCheckDisabled", "Health checks are disabled for this target group.")
UNUSED = ("unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer.")
OTHER_ZONE = (
    "unused",
    "Target.NotInUse",
    "Target is in an Availability Zone that is not enabled for the load balancer.",
)
REGISTRATION = ("initial", "Elb.RegistrationInProgress", "Target registration is in progress.")


def status_of(runtime: Runtime) -> Json:
    return {
        "version": VERSION,
        "process_id": os.getpid(),
        "phase": runtime.phase,
        "started_at": _timestamp(runtime.started_at),
        "uptime_seconds": round(time.time() - runtime.started_at, 3),
        "workers": _workers(runtime),
        "limits": _limits(runtime),
        "configuration": _configuration(runtime),
        "listeners": [_listener(listener) for listener in runtime.proxy.listeners.values()],
        "target_groups": _target_groups(runtime.proxy),
        "dns": _dns(runtime),
    }


def _workers(runtime: Runtime) -> list[Json]:
    """Empty when one process does everything."""
    return [
        {
            "worker": worker.number,
            "process_id": worker.process_id,
            "up": worker.up,
            "restarts": worker.restarts,
            "cpu_seconds": round(worker.cpu_seconds, 3),
            "resident_bytes": worker.resident_bytes,
            "connections": worker.connections,
            "out_of_descriptors": worker.out_of_descriptors,
        }
        for worker in (runtime.workers.statuses() if runtime.workers is not None else ())
    ]


def _limits(runtime: Runtime) -> Json:
    """Of the process, or with workers of each of them; what is active, in all."""
    intake = runtime.proxy.intake
    return {
        "connections": intake.limit or None,
        "connections_active": intake.active(),
        "descriptors": intake.descriptors,
        "out_of_descriptors": runtime.out_of_descriptors,
    }


def _configuration(runtime: Runtime) -> Json:
    last = runtime.last_reload
    return {
        "applied_at": _timestamp(runtime.applied_at),
        "reloads": dict(runtime.reloads),
        "last_reload": None if last is None else {
            "at": _timestamp(last.at),
            "why": last.why,
            "result": last.outcome,
            "messages": list(last.messages),
        },
    }  # fmt: skip


def _listener(listener: AnyListener) -> Json:
    spec, counters = listener.spec, listener.counters
    return {
        "listener": spec.key,
        "load_balancer": spec.load_balancer,
        "protocol": spec.protocol,
        "bound": host_port(*listener.bound),
        "connections": counters.accepted,
        "connections_active": counters.active,
        "requests": counters.requests,
        "denied": dict(counters.denied),
        "failed": dict(counters.failed),
        "bytes_in": counters.bytes_in,
        "bytes_out": counters.bytes_out,
    }


def _target_groups(proxy: Proxy) -> list[Json]:
    used = proxy.spec.used_groups()
    return [_target_group(group, group.name in used) for group in proxy.groups.values()]


def _target_group(group: TargetGroup, used: bool) -> Json:
    return {
        "target_group": group.spec.name,
        "protocol": group.spec.protocol,
        "algorithm": group.spec.algorithm,
        "targets": [_target(target, used) for target in group.targets],
    }


def _target(target: Target, used: bool) -> Json:
    return {
        "target": target.spec.key,
        "weight": target.spec.weight,
        "zone": target.spec.zone,
        "health": _health(target, used),
        "in_flight": target.in_flight,
        "requests": target.counters.requests,
        "failed": dict(target.counters.failed),
    }


def _health(target: Target, used: bool) -> Json:
    record = target.health()
    if target.draining:
        state, reason, description = DEREGISTRATION
    elif not used:
        state, reason, description = UNUSED
    elif target.is_out_of_zone:
        state, reason, description = OTHER_ZONE
    elif target.check_key is None and record is None:
        state, reason, description = DISABLED
    elif record is None:
        state, reason, description = REGISTRATION
    else:
        since = round(max(0.0, time.monotonic() - record.since), 3)  # the table's clock is the monotonic one
        return {
            "state": record.state,
            "reason": record.reason,
            "description": record.description,
            "for_seconds": since,
        }
    return {"state": state, "reason": reason, "description": description, "for_seconds": None}


def _dns(runtime: Runtime) -> Json:
    counters = runtime.dns.counters
    return {
        "listen": [host_port(*bound) for bound in runtime.dns.bound],
        "secure": [f"{host_port(address, port)} {protocol}" for address, port, protocol in runtime.dns.bound_secure],
        "services": _services(runtime),
        "queries": sum(counters.queries.values()),
        "responses": dict(counters.responses),
        "dropped": dict(counters.dropped),
        "refused": dict(counters.refused),
        "forwarded": counters.forwarded,
        "cache_hits": counters.cache_hits,
        "top_names": _top_names(runtime),
    }


def _top_names(runtime: Runtime) -> list[Json] | None:
    """Counts are too high by at most `error`, and never too low."""
    top = runtime.dns.top_names
    if top is None:
        return None
    return [
        {"name": name_text(found.name), "queries": found.times, "error": found.error}
        for found in top.most(TOP_NAMES_SHOWN)
    ]


def _services(runtime: Runtime) -> list[Json]:
    def instance(spec: InstanceSpec) -> Json:
        healthy = is_up(spec, runtime.health)
        return {"id": spec.id, "ip": spec.ip, "port": spec.port, "weight": spec.weight, "healthy": healthy}

    known = runtime.dns.answers.registry.known

    namespaces = runtime.settings.dns.namespaces if runtime.settings else ()
    return [
        {
            "names": [f"{service.name}.{zone}" for zone in namespace.names],
            "records": dict(service.records),
            "policy": service.policy,
            "instances": [instance(each.spec) for each in known(namespace.names[0], service.name).by_id.values()],
        }
        for namespace in namespaces
        for service in namespace.services
    ]


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
