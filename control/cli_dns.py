"""The commands about names: `penstock dns ...` and `penstock service-discovery ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_instances import add_to

dns = typer.Typer(help="The DNS server.", no_args_is_help=True)
service_discovery = typer.Typer(help="Namespaces, services and instances.", no_args_is_help=True)

add_to(service_discovery)

AdminOption = Annotated[str, typer.Option(metavar="ADDRESS:PORT", help="The admin address of a running process.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Instead: a configuration, with everybody healthy.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="The whole record, as JSON.")]
DEFAULT_ADMIN = "127.0.0.1:9900"


@dns.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    rtype: Annotated[str, typer.Argument(metavar="TYPE")] = "A",
    client: Annotated[str, typer.Option("--client", metavar="ADDRESS", help="Who asks.")] = "127.0.0.1",
    config: ConfigOption = None,
    admin: AdminOption = DEFAULT_ADMIN,
    as_json: JsonOption = False,
) -> None:
    """Say what a client is answered, and why: its view, the policy, every instance and who is left out."""
    _print(_reports(admin, config, name=name, type=rtype, client=client), as_json)


@service_discovery.command()
def lookup(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as api.services.")],
    rtype: Annotated[str, typer.Option("--type", metavar="TYPE")] = "A",
    config: ConfigOption = None,
    admin: AdminOption = DEFAULT_ADMIN,
    as_json: JsonOption = False,
) -> None:
    """Say what every view is answered, and why."""
    _print(_reports(admin, config, name=name, type=rtype), as_json)


def _reports(admin: str, config: Path | None, **query: str) -> list[dict[str, Any]]:
    import time

    from .admin.client import NoAnswerError, get_names
    from .cli import fail, sentences
    from .config import load
    from .exits import ExitCode
    from .explain_dns import check_question, from_configuration

    with sentences():
        try:
            check_question(query["name"], query["type"], query.get("client"))
            if config is None:
                return get_names(admin, **query)
            settings = load(config, now=time.time(), materialize=False).settings
            return from_configuration(settings.dns, query["name"], query["type"], query.get("client"))
        except NoAnswerError as error:
            fail(str(error), ExitCode.UNREACHABLE)
        except ValueError as error:
            fail(str(error), ExitCode.UNREADABLE)


def _print(reports: list[dict[str, Any]], as_json: bool) -> None:
    from .explain_dns import show

    typer.echo(json.dumps(reports, indent=2) if as_json else "\n\n".join(map(show, reports)))
