"""A DNS server of many instances, from the library: what a change costs its loop and an instance its memory.

Prints these as one line of JSON and serves until it is ended. Services are of eight instances, with A and SRV.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Hashable
from pathlib import Path

import uvloop

from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, NetworkSpec, ServiceSpec

SERVICE_SIZE = 8
CHANGES = 300


class Health:
    def __init__(self) -> None:
        self.sick: set[Hashable] = set()

    def is_healthy(self, key: Hashable, /) -> bool:
        return key not in self.sick


def instance(number: int) -> InstanceSpec:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return InstanceSpec(f"i-{number}", address, 8080, weight=number % 3 + 1, health_key=number)


def specification(port: int, instances: int) -> DnsSpec:
    services = tuple(
        ServiceSpec(
            f"s{first // SERVICE_SIZE}",
            (("A", 60), ("SRV", 60)),
            "weighted",
            tuple(instance(number) for number in range(first, min(first + SERVICE_SIZE, instances))),
        )
        for first in range(0, instances, SERVICE_SIZE)
    )
    namespaces = (NamespaceSpec(("services",), services), NamespaceSpec(("office",), networks=("loopback",)))
    return DnsSpec((("127.0.0.1", port),), namespaces, networks=(NetworkSpec("loopback", ("127.0.0.0/8",)),))


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def milliseconds(change: Callable[[int], None]) -> list[float]:
    """Median and worst."""
    took: list[float] = []
    for number in range(CHANGES):
        began = time.perf_counter()
        change(number)
        took.append((time.perf_counter() - began) * 1000)
    return [statistics.median(took), max(took)]


async def serve(port: int, instances: int) -> None:
    before, health = resident(), Health()
    server = DnsServer(health)
    (await server.prepare(specification(port, instances))).commit()
    per_instance = (resident() - before) / instances

    def fail(number: int) -> None:
        health.sick.add(number * 331 % instances)
        server.health_changed([number * 331 % instances])

    services = instances // SERVICE_SIZE
    facts = {
        "instances": instances,
        "bytes": per_instance,
        "fail": milliseconds(fail),
        "register": milliseconds(lambda n: server.register("services", f"s{n % services}", instance(instances + n))),
        "deregister": milliseconds(lambda n: server.deregister("services", f"s{n % services}", f"i-{instances + n}")),
    }
    print(json.dumps(facts), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
