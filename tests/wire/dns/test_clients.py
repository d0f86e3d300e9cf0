"""The clients that people have: libc through a resolv.conf, kdig, dnsperf. dig is everywhere in these tests."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.dns.server import DnsServer
from penstock.dns.transport_specs import TransportSpec
from support import dns_packets as packets
from support.dns_net import LOCAL, serving
from support.loop import run
from support.tools import need_tool

TESTS = Path(__file__).parents[2]
# Names of its own: nothing of the machine's, and nothing that systemd-resolved does, is touched.
ALONE = ("--user", "--map-root-user", "--mount", "--net")
SCRIPT = """
mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf || exit
shift
exec "$@"
"""


def in_namespaces(tmp_path: Path, *names: str) -> dict[str, Any]:
    unshare = need_tool("unshare", package="util-linux")
    if subprocess.run([unshare, *ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user, mount and network namespaces: this machine does not let us have them")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch corp.internal\noptions timeout:2 attempts:1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: dns\n")
    child = [sys.executable, "-P", "-m", "support.resolving_child", *names]
    done = subprocess.run(
        [unshare, *ALONE, "sh", "-c", SCRIPT, "sh", str(tmp_path), *child],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path, env={"PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    if "mount:" in done.stderr:
        pytest.skip(f"cannot mount over /etc/resolv.conf here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_getaddrinfo(tmp_path: Path) -> None:
    """U01: an answer that was truncated is asked for over TCP by glibc, which wants the question in it."""
    got = in_namespaces(
        tmp_path, "api.corp.internal", "API", "alias", "nope.corp.internal", "none.corp.internal", "big.corp.internal"
    )
    api = ["10.0.1.10", "10.0.1.11"]
    big = got["found"].pop("big.corp.internal")
    assert got["found"] == {
        "api.corp.internal": api, "API": api, "alias": api,
        "nope.corp.internal": "EAI_NONAME", "none.corp.internal": "EAI_NODATA",
    }  # fmt: skip
    assert len(big) == 100
    assert set(big) <= {instance.ip for instance in packets.BIG}
    assert got["over_tcp"] in (1, 2), "where its first buffer was too small it asks again"


async def tool(*command: str) -> str:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def port_of(server: DnsServer) -> str:
    return str(server.bound[0][1])


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("api.corp.internal", "A"), ["status: NOERROR", "ANSWER: 2", "10.0.1.10"]),
        (("api.corp.internal", "A", "+tcp", "+keepopen", "_http._tcp.api.corp.internal", "SRV"), ["i-1.api.corp.in"]),
        (("api.corp.internal", "A", "+edns=1"), ["BADVERS"]),
        (("api.corp.internal", "A", "+cookie"), ["COOKIE"]),
        (("api.corp.internal", "A", "+dnssec", "+padding"), ["status: NOERROR", "do;"]),
        (("big.corp.internal", "A"), ["ANSWER: 100", "TCP"]),
        (("nope.corp.internal", "HTTPS"), ["status: NXDOMAIN", "AUTHORITY: 1"]),
        (("corp.internal", "AXFR"), ["hostmaster.corp.internal.", "i-2.api.corp.internal.", "Received"]),
        (("-x", "10.0.1.10"), ["i-1.api.corp.internal."]),
        (("example.org", "A"), ["REFUSED", "EDE: 20"]),
    ],
)  # fmt: skip
def test_kdig(arguments: tuple[str, ...], printed: list[str]) -> None:
    kdig = need_tool("kdig", package="knot-dnsutils")

    async def scenario() -> None:
        transport = TransportSpec(transfer_to=("127.0.0.1/32",), cookie_secret=bytes(16))
        async with serving(packets.spec(listen=LOCAL, transport=transport)) as server:
            out = await tool(kdig, "@127.0.0.1", "-p", port_of(server), "+edns", "+retry=0", *arguments)
            assert [text for text in printed if text not in out] == [], out
            assert "WARNING" not in out.replace("WARNING: truncated reply", "")

    run(scenario())


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_dnsperf(mode: str, tmp_path: Path) -> None:
    """Not for its speed: thousands of queries, several clients, and none is lost or answered in another way."""
    dnsperf = need_tool("dnsperf", package="dnsperf")
    names = ("api", "API", "_http._tcp.api", "nope")
    asked = [*map("{}.corp.internal {}".format, names, ("A", "AAAA", "SRV", "A")), "example.org A"]
    queries = tmp_path / "queries"
    queries.write_text("".join(f"{line}\n" for line in asked))

    async def scenario() -> None:
        async with serving(packets.spec(listen=LOCAL)) as server:
            out = await tool(
                dnsperf, "-s", "127.0.0.1", "-p", port_of(server), "-d", str(queries), "-n", "400", "-c", "4", "-e",
                "-m", mode, "-T", "1", "-q", "50",
            )  # fmt: skip
            counted = dict(re.findall(r"(NOERROR|NXDOMAIN|REFUSED) (\d+) ", out))
            assert counted == {"NOERROR": "1200", "NXDOMAIN": "400", "REFUSED": "400"}, out
            assert re.search(r"Queries lost: +0 ", out), out
            assert server.counters.internal_errors == 0

    run(scenario())
