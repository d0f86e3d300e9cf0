"""The command `penstock`. It reads arguments, calls, and turns what went wrong into a sentence and an exit code.

Each command imports what it needs when it runs: `penstock --help` is there before a web framework would be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .cli_dns import dns, service_discovery
from .exits import CannotApply, ExitCode

if TYPE_CHECKING:
    from .config import Loaded

app = typer.Typer(
    help="A load balancer and DNS server for service discovery, configured by one YAML file.",
    epilog="Exit codes: 0 all is well; 1 mistakes in the configuration; 2 a file cannot be read, or wrong usage; "
    "3 cannot listen where the configuration says; 4 no running process answers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback here is a bug of ours, and Python's own is the best to report
)
app.add_typer(dns, name="dns")
app.add_typer(service_discovery, name="service-discovery")

# Whether it can be read is for the reader of it to say, in a sentence; click's own look at it ends in a box of usage.
ConfigurationFile = Annotated[Path, typer.Argument(metavar="FILE", help="The configuration, in YAML.", readable=False)]

DEFAULT_ADMIN = "127.0.0.1:9900"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[LogFormat, typer.Option(help="How log lines on standard error look.")]


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:  # before or after the loop, which takes the signal itself
        sys.exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        from .version import VERSION

        typer.echo(f"penstock {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


@app.command()
def run(
    file: ConfigurationFile,
    watch: Annotated[bool, typer.Option(help="Reload when FILE or a certificate named in it changes.")] = True,
    log_format: LogFormatOption = LogFormat.TEXT,
) -> None:
    """Start. SIGHUP or a changed file reloads, SIGUSR1 opens the logs anew.

    SIGTERM drains and stops, a second one stops at once.
    """
    from .logs import log_to_stderr
    from .process import run as serve

    log_to_stderr(log_format.value)
    with sentences():
        serve(file, watch=watch)


@app.command()
def check(file: ConfigurationFile) -> None:
    """Validate FILE and print every mistake. Exit code 0 clean, 1 mistakes, 2 unreadable."""
    import time

    from .config import load

    with sentences():
        loaded = load(file, now=time.time(), materialize=False)
        for warning in loaded.all_warnings:
            typer.echo(f"warning: {warning}", err=True)
        typer.echo(f"{file}: {_summary(loaded)}")


@app.command()
def explain(
    method: Annotated[str, typer.Argument(metavar="METHOD")],
    url: Annotated[str, typer.Argument(metavar="URL")],
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The configuration, in YAML.")],
    source: Annotated[str, typer.Option("--src", metavar="ADDRESS", help="Where the client is.")],
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="One more field, as curl's -H.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="The listener's, where several fit.")
    ] = None,
    sni: Annotated[
        str | None,
        typer.Option("--sni", metavar="NAME", help="The name asked for in TLS, if not the URL's; '' is none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole record, as JSON.")] = False,
) -> None:
    """Say who would serve a request, and why, without sending it: firewall, certificate, every rule, targets."""
    import time

    from .config import load
    from .explain import NoDecisionError, explained, show

    with sentences():
        settings = load(config, now=time.time(), materialize=False).settings
        try:
            reports = explained(settings.proxy, method, url, source, header or (), to, sni)
        except NoDecisionError as error:
            fail(str(error), ExitCode.UNREADABLE)
        typer.echo(json.dumps(reports, indent=2) if as_json else "\n\n".join(map(show, reports)))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from .config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def status(
    admin: Annotated[str, typer.Option(metavar="ADDRESS:PORT", help="Its admin address.")] = DEFAULT_ADMIN,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show what a running process is doing, as a table."""
    from .admin.client import NoAnswerError, get_status

    try:
        answer = get_status(admin)
    except NoAnswerError as error:
        fail(str(error), ExitCode.UNREACHABLE)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    from .admin.table import show

    show(answer)


@app.command()
def demo(log_format: LogFormatOption = LogFormat.TEXT) -> None:
    """Start the quickstart: two sample origins, a load balancer and a DNS server, and four commands to try them."""
    from .demo import run_demo
    from .logs import log_to_stderr

    log_to_stderr(log_format.value)
    with sentences():
        run_demo()


@contextmanager
def sentences() -> Iterator[None]:
    """End the process with words and an exit code for what a user or a machine can get wrong."""
    from .config import ConfigurationError, UnreadableError

    try:
        yield
    except ConfigurationError as error:
        for mistake in error.mistakes:
            typer.echo(str(mistake), err=True)
        fail(f"{_counted(len(error.mistakes), 'mistake')} in {error.mistakes[0].file}", ExitCode.MISTAKES)
    except UnreadableError as error:
        fail(str(error), ExitCode.UNREADABLE)
    except CannotApply as error:
        fail(str(error), ExitCode.CANNOT_LISTEN)


def fail(sentence: str, code: ExitCode) -> NoReturn:
    typer.echo(f"penstock: {sentence}", err=True)
    raise typer.Exit(code)


def _summary(loaded: Loaded) -> str:
    """What a file without mistakes amounts to, in a line."""
    proxy, dns = loaded.settings.proxy, loaded.settings.dns
    counts = (
        (len(proxy.listeners), "listener"),
        (len(proxy.target_groups), "target group"),
        (sum(len(group.targets) + len(group.named_targets) for group in proxy.target_groups), "target"),
        (sum(len(namespace.services) for namespace in dns.namespaces), "DNS service"),
    )
    return "no mistakes; " + ", ".join(_counted(count, noun) for count, noun in counts)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
