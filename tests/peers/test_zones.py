"""The same zone served by Penstock, BIND and Knot, answer by answer: where we differ is written down, with why.

What is compared is what a resolver goes by: response code, AA and TC, every record of the answer with its TTL, and the
SOA of the authority section. A difference that has no row fails; a row that is no difference any more does too.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from penstock.dns.server import DnsServer
from penstock.dns.specs import DnsSpec, InstanceSpec, NamespaceSpec, RecordSpec, ServiceSpec
from support import free_port, need_tool
from support.dns_net import Health

PATIENCE = 10.0  # seconds until a server answers its first question

API = ServiceSpec(
    "api",
    (("A", 60), ("AAAA", 60), ("SRV", 60)),
    "weighted",
    (
        InstanceSpec("i-1", "192.0.2.10", 8080, weight=3, attributes=(("version", "1.0"), ("az", "a"))),
        InstanceSpec("i-2", "192.0.2.11", 8081),
        InstanceSpec("i-6", "2001:db8::6", 8086),
    ),
)
EMPTY = ServiceSpec("empty", (("A", 60),))
BIG = ServiceSpec("big", (("A", 60),), "weighted", tuple(InstanceSpec(f"b-{n}", f"192.0.2.{n}", 1) for n in range(90)))
RECORDS = (
    RecordSpec("www", "CNAME", 30, ("api",)),
    RecordSpec("a", "CNAME", 31, ("b",)),
    RecordSpec("b", "CNAME", 32, ("www",)),
    RecordSpec("round", "CNAME", 30, ("about",)),
    RecordSpec("about", "CNAME", 30, ("round",)),
    RecordSpec("away", "CNAME", 30, ("app.example.org",)),
    RecordSpec("gone", "CNAME", 30, ("nobody",)),
    RecordSpec("text", "TXT", 30, ("v=1 text", "other")),
    RecordSpec("@", "TXT", 30, ("apex",)),
    RecordSpec("db", "A", 30, ("192.0.2.40", "192.0.2.41")),
    RecordSpec("_ldap._tcp", "SRV", 30, ("10 5 389 db", "20 0 389 ldap.example.org.")),
    RecordSpec("*.apps", "A", 30, ("192.0.2.50",)),
    RecordSpec("own.apps", "TXT", 30, ("no address here",)),
    RecordSpec("*.alias", "CNAME", 30, ("api",)),
    RecordSpec("wild", "CNAME", 30, ("some.apps.services",)),
    RecordSpec("deep.down.below.apps", "A", 30, ("192.0.2.51",)),
)
NAMESPACE = NamespaceSpec(("services",), (API, EMPTY, BIG), ttl=60, negative_ttl=5, records=RECORDS)

ZONE = """\
$ORIGIN services.
@ 60 SOA ns hostmaster 1 7200 900 1209600 5
@ 60 NS ns
ns 60 A 127.0.0.1
api 60 A 192.0.2.10
api 60 A 192.0.2.11
api 60 AAAA 2001:db8::6
api 60 SRV 1 3 8080 i-1.api
api 60 SRV 1 1 8081 i-2.api
api 60 SRV 1 1 8086 i-6.api
_http._tcp.api 60 SRV 1 3 8080 i-1.api
_http._tcp.api 60 SRV 1 1 8081 i-2.api
_http._tcp.api 60 SRV 1 1 8086 i-6.api
i-1.api 60 A 192.0.2.10
i-1.api 60 TXT "version=1.0" "az=a"
i-2.api 60 A 192.0.2.11
i-6.api 60 AAAA 2001:db8::6
www 30 CNAME api
a 31 CNAME b
b 32 CNAME www
round 30 CNAME about
about 30 CNAME round
away 30 CNAME app.example.org.
gone 30 CNAME nobody
text 30 TXT "v=1 text"
text 30 TXT "other"
@ 30 TXT "apex"
db 30 A 192.0.2.40
db 30 A 192.0.2.41
_ldap._tcp 30 SRV 10 5 389 db
_ldap._tcp 30 SRV 20 0 389 ldap.example.org.
*.apps 30 A 192.0.2.50
own.apps 30 TXT "no address here"
*.alias 30 CNAME api
wild 30 CNAME some.apps
deep.down.below.apps 30 A 192.0.2.51
""" + "".join(f"big 60 A 192.0.2.{n}\nb-{n}.big 60 A 192.0.2.{n}\n" for n in range(90))

QUESTIONS = [
    f"{name} {rtype}".lstrip(".")
    for name, types in {
        "services": "SOA NS TXT A ANY",
        "ns.services": "A AAAA",
        "api.services": "A AAAA SRV TXT CNAME MX TYPE1000",
        "API.Services": "A",
        "_http._tcp.api.services": "SRV A",
        "_tcp.api.services": "SRV A",
        "i-1.api.services": "A AAAA TXT",
        "x.api.services": "A SRV",
        "x.i-1.api.services": "A",
        "empty.services": "A",
        "big.services": "A",
        "www.services": "A AAAA SRV TXT CNAME",
        "a.services": "A CNAME TXT",
        "x.www.services": "A",
        "round.services": "A",
        "away.services": "A CNAME",
        "gone.services": "A",
        "text.services": "TXT A",
        "db.services": "A AAAA",
        "_ldap._tcp.services": "SRV",
        "_tcp.services": "SRV",
        "apps.services": "A",
        "*.apps.services": "A TXT",
        "x.apps.services": "A TXT",
        "y.x.apps.services": "A",
        "own.apps.services": "A TXT",
        "x.own.apps.services": "A",
        "below.apps.services": "A",
        "down.below.apps.services": "A",
        "x.below.apps.services": "A",
        "deep.down.below.apps.services": "A AAAA",
        "x.alias.services": "A TXT",
        "alias.services": "A",
        "wild.services": "A TXT",
        "nobody.services": "A AAAA TXT SOA",
        "x.y.z.services": "A",
        "example.org": "A",
        ".": "NS",
    }.items()
    for rtype in types.split()
]

# (peer, question): why we say otherwise.
ACCEPTED: dict[tuple[str, str], str] = {
    ("bind", "empty.services A"): "a zone file has no name without records; a service without instances is there",
    ("knot", "empty.services A"): "a zone file has no name without records; a service without instances is there",
    (
        "bind",
        "round.services A",
    ): "RFC 1034 3.6.2 asks for an error; like Knot we say what we found, and resolvers count",
    ("bind", "nobody.services SOA"): "RFC 2308 3 has no exception; it does not let the absence of SOAs be kept",
}

Verdict = tuple[Any, ...]


def verdict(port: int, question: str) -> Verdict:
    name, _, rtype = question.rpartition(" ")
    query = dns.message.make_query(name or ".", rtype, use_edns=0, payload=1232)
    query.flags &= ~dns.flags.RD
    reply = dns.query.udp(query, "127.0.0.1", port=port, timeout=PATIENCE)
    answer: list[Any] = sorted(
        (str(rrset.name).lower(), dns.rdatatype.to_text(rrset.rdtype), rrset.ttl, *sorted(map(str, rrset)))
        for rrset in reply.answer
    )
    if rtype == "SOA":
        answer = [entry[:3] for entry in answer]  # the serial is each server's own
    if rtype == "ANY":
        answer = [len(answer)]  # one RRset, whichever it is (RFC 8482 section 4.1)
    soa = [
        (str(rrset.name), rrset.ttl, rrset[0].minimum) for rrset in reply.authority if rrset.rdtype == dns.rdatatype.SOA
    ]
    flags = dns.flags.to_text(reply.flags & (dns.flags.AA | dns.flags.TC))
    if reply.flags & dns.flags.TC:
        answer = []  # how much of it is sent is each server's own; nobody may use it
    return dns.rcode.to_text(reply.rcode()), flags, answer, soa


@contextmanager
def penstock(_: Path) -> Iterator[int]:
    """In a thread, for the client here blocks."""
    port, loop = free_port(), asyncio.new_event_loop()
    server, stop, up = DnsServer(Health()), asyncio.Event(), threading.Event()

    async def serve() -> None:
        spec = DnsSpec(listen=(("127.0.0.1", port),), namespaces=(NAMESPACE,))
        (await server.prepare(spec)).commit()
        up.set()
        await stop.wait()
        await server.stop(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(PATIENCE)
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@contextmanager
def bind(folder: Path) -> Iterator[int]:
    port, program = free_port(), need_tool("named", package="bind9")
    (folder / "named.conf").write_text(
        f"""\
options {{
  directory "{folder}"; pid-file none; session-keyfile none;
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
  recursion no; minimal-responses yes; minimal-any yes; querylog no; dnssec-validation no;
}};
controls {{ }};
zone "services" {{ type primary; file "services.zone"; }};
"""
    )
    with running([program, "-g", "-n", "1", "-c", str(folder / "named.conf")], folder, port):
        yield port


@contextmanager
def knot(folder: Path) -> Iterator[int]:
    port, program = free_port(), need_tool("knotd", package="knot")
    (folder / "run").mkdir()
    (folder / "knot.conf").write_text(
        f"""\
server:
  listen: 127.0.0.1@{port}
  rundir: "{folder}/run"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{folder}/run"
zone:
  - domain: services
    file: "{folder}/services.zone"
    zonefile-sync: -1
    journal-content: none
"""
    )
    with running([program, "-c", str(folder / "knot.conf")], folder, port):
        yield port


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                reply = dns.query.udp(dns.message.make_query("services", "SOA"), "127.0.0.1", port=port, timeout=0.2)
                if reply.rcode() == dns.rcode.NOERROR:
                    break
            except (dns.exception.Timeout, OSError):
                pass
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.parametrize(("peer", "serving"), [("bind", bind), ("knot", knot)])
def test_we_say_what_they_say(peer: str, serving: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "services.zone").write_text(ZONE)
    with serving(tmp_path) as theirs, penstock(tmp_path) as ours:
        different = {
            question: (mine, other)
            for question in QUESTIONS
            if (mine := verdict(ours, question)) != (other := verdict(theirs, question))
        }
    accepted = {question for name, question in ACCEPTED if name == peer}
    assert different.keys() == accepted, "\n".join(
        f"{question}\n  ours   {mine}\n  theirs {other}" for question, (mine, other) in different.items()
    )
