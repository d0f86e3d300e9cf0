"""`penstock service-discovery register` and its like: instances that come and go, told to a running process."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

DEFAULT_ADMIN = "127.0.0.1:9900"

ServiceArgument = Annotated[str, typer.Argument(metavar="SERVICE", help="With its namespace, such as api.services.")]
InstanceArgument = Annotated[str, typer.Argument(metavar="INSTANCE", help="Its id, one label.")]
AdminOption = Annotated[str, typer.Option(metavar="ADDRESS:PORT", help="The admin address of a running process.")]


class Failover(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


class Health(StrEnum):
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    AUTO = "AUTO"


def add_to(commands: typer.Typer) -> None:
    for command in (register, deregister, heartbeat):
        commands.command()(command)
    commands.command("set-health")(set_health)


def register(
    service: ServiceArgument,
    instance: InstanceArgument,
    ip: Annotated[str, typer.Option("--ip", metavar="ADDRESS", help="Where it is.")],
    port: Annotated[int | None, typer.Option("--port", help="For SRV records and health checks.")] = None,
    weight: Annotated[int | None, typer.Option("--weight", help="Its share, 0 to 255; 1 by default.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    failover: Annotated[Failover | None, typer.Option("--failover")] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="The network's by default, as the next.")] = None,
    region: Annotated[str | None, typer.Option("--region")] = None,
    location: Annotated[str | None, typer.Option("--location", metavar="PATH", help="Such as eu/de.")] = None,
    heartbeat_ttl: Annotated[
        str | None, typer.Option("--heartbeat-ttl", metavar="DURATION", help="Unhealthy after so much silence.")
    ] = None,
    deregister_after: Annotated[
        str | None,
        typer.Option("--deregister-after", metavar="DURATION", help="Gone after so much more; else 60s."),
    ] = None,
    admin: AdminOption = DEFAULT_ADMIN,
) -> None:
    """Have an instance answered, from now on. Registering it again changes it."""
    given = {
        "ip": ip,
        "port": port,
        "weight": weight,
        "attributes": dict(map(_pair, attribute)) if attribute else None,
        "failover": failover,
        "zone": zone,
        "region": region,
        "location": location,
        "heartbeat_ttl": heartbeat_ttl,
        "deregister_after": deregister_after,
    }
    _change(admin, "PUT", service, instance, "", {key: value for key, value in given.items() if value is not None})
    typer.echo(f"{instance} of {service} is registered")


def deregister(
    service: ServiceArgument,
    instance: InstanceArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Return when nobody goes by an old answer any more.")] = False,
    admin: AdminOption = DEFAULT_ADMIN,
) -> None:
    """Have it answered no more. Let it serve for as long as this says: others may still have been told of it."""
    drain = _change(admin, "DELETE", service, instance, "").get("drain_seconds", 0)
    typer.echo(f"{instance} of {service} is deregistered; answers given before last for {drain} s")
    if wait:
        import time

        time.sleep(drain)


def heartbeat(service: ServiceArgument, instance: InstanceArgument, admin: AdminOption = DEFAULT_ADMIN) -> None:
    """Say that it lives."""
    _change(admin, "PUT", service, instance, "/heartbeat")


def set_health(
    service: ServiceArgument,
    instance: InstanceArgument,
    status: Annotated[Health, typer.Argument(help="AUTO: what checks and heartbeats find.")],
    admin: AdminOption = DEFAULT_ADMIN,
) -> None:
    """Say whether it is healthy, whatever checks and heartbeats find. That stands until AUTO."""
    _change(admin, "PUT", service, instance, "/health", {"status": status.value})
    typer.echo(f"{instance} of {service}: {status.value}")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"{text!r} is no KEY=VALUE")
    return key, value


def _change(
    admin: str, method: str, service: str, instance: str, what: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    from .admin.client import NoAnswerError, RefusedError, change, instance_path
    from .cli import fail
    from .exits import ExitCode

    try:
        return change(admin, method, instance_path(service, instance) + what, body)
    except NoAnswerError as error:
        fail(str(error), ExitCode.UNREACHABLE)
    except RefusedError as error:
        *others, last = error.args
        for mistake in others:
            typer.echo(f"penstock: {mistake}", err=True)
        fail(last, ExitCode.MISTAKES)
