"""`/status` for people: a few tables that fit a terminal, and colour only where somebody should look."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Json = dict[str, Any]

# In a pipe nothing is wrapped, for grep and awk read lines; a table is only as wide as what it holds.
PIPED_WIDTH = 10_000

COLOURS = {"healthy": "green", "unhealthy": "red", "initial": "yellow", "draining": "yellow", "unavailable": "dim"}


def show(status: Json, console: Console | None = None) -> None:
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    uptime = timedelta(seconds=round(status["uptime_seconds"]))
    phase = status["phase"] if status["phase"] == "ready" else f"[yellow]{status['phase']}[/]"
    console.print(f"Penstock {status['version']}, process {status['process_id']}, {phase}, up {uptime}")
    if status.get("limits", {}).get("out_of_descriptors"):
        console.print("[red]Out of file descriptors: new clients are turned away[/]")
    for line in _last_reload(status["configuration"]):
        console.print(line, soft_wrap=True)  # a mistake is one line, to be copied as one
    if status.get("workers"):  # empty when one process does everything; a 0.1 process says nothing of it
        console.print(_workers(status["workers"]))
    if status["listeners"]:
        console.print(_listeners(status["listeners"]))
    if any(group["targets"] for group in status["target_groups"]):
        console.print(_targets(status["target_groups"]))
    if status["dns"]["services"]:
        console.print(_services(status["dns"]))


def _last_reload(configuration: Json) -> list[str]:
    last = configuration["last_reload"]
    if last is None:
        return [f"Configuration of {configuration['applied_at']}, never reloaded"]
    if last["result"] != "rejected":
        return [f"Configuration of {configuration['applied_at']}, last reload {last['result']} at {last['at']}"]
    messages = [f"  {escape(message)}" for message in last["messages"]]
    return [
        f"[red]Configuration of {configuration['applied_at']}: the reload at {last['at']} was rejected[/]",
        *messages,
    ]


def _workers(workers: list[Json]) -> Table:
    table = _table("Worker", "#Process", "State", "#Connections", "#CPU seconds", "#Memory", "#Restarts")
    for one in workers:
        table.add_row(
            str(one["worker"]),
            str(one["process_id"]),
            "[green]up[/]" if one["up"] else "[red]down[/]",
            str(one["connections"]),
            f"{one['cpu_seconds']:.1f}",
            f"{one['resident_bytes'] / 2**20:.0f} MiB",
            str(one["restarts"]),
        )
    return table


def _listeners(listeners: list[Json]) -> Table:
    table = _table("Listener", "Protocol", "Load balancer", "#Open", "#Connections", "#Requests", "#Denied")
    for one in listeners:
        table.add_row(
            escape(one["bound"]),
            one["protocol"],
            escape(one["load_balancer"]),
            str(one["connections_active"]),
            str(one["connections"]),
            str(one["requests"]),
            str(sum(one["denied"].values())),
        )
    return table


def _targets(groups: list[Json]) -> Table:
    table = _table("Target group", "Target", "#Weight", "Health", "#In flight", "#Requests", "#Failed")
    for group in groups:
        for target in group["targets"]:
            state, why = target["health"]["state"], target["health"]["description"]
            health = f"[{COLOURS[state]}]{state}[/]" + (f" {escape(why)}" if state == "unhealthy" else "")
            table.add_row(
                escape(group["target_group"]),
                escape(target["target"]),
                str(target["weight"]),
                health,
                str(target["in_flight"]),
                str(target["requests"]),
                str(sum(target["failed"].values())),
            )
        table.add_section()
    return table


def _services(dns: Json) -> Table:
    table = _table("Name", "Records", "Policy", "Instances")
    for service in dns["services"]:
        healthy = sum(instance["healthy"] for instance in service["instances"])
        colour = "green" if healthy == len(service["instances"]) else "red"
        table.add_row(
            "\n".join(service["names"]),
            ", ".join(f"{record} {ttl}s" for record, ttl in service["records"].items()),
            service["policy"],
            f"[{colour}]{healthy} of {len(service['instances'])} healthy[/]",
        )
    return table


def _table(*columns: str) -> Table:
    """A `#` before a name makes its column one of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    return table
