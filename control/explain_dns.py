"""`penstock dns explain` and `penstock service-discovery lookup`: why a name says what it says, in lines or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import dnslib  # pyright: ignore[reportMissingTypeStubs] - it has none

from ..dns.admission import HOME, Admission
from ..dns.answers import Answers
from ..dns.counters import RCODE_NAMES
from ..dns.explain import Explanation, explain, lookup
from ..dns.prefixes import PrefixMap, client_address
from ..dns.selection import Routes
from ..dns.specs import DnsSpec
from ..dns.wire import Rcode, Type, encode_name

if TYPE_CHECKING:
    from .runtime import Runtime

EXPLAINED: Final = ("A", "AAAA", "SRV", "CNAME", "TXT", "PTR", "SOA", "NS", "HTTPS", "SVCB", "ANY")
Report = dict[str, Any]


def reports_of(answers: Answers, spec: DnsSpec, name: str, rtype: str, client: str | None) -> list[Report]:
    """For one client, or for every view. ValueError in words for what is no name, type or address."""
    check_question(name, rtype, client)
    asked = Type[rtype.upper()]
    if client is not None:
        return [_report(explain(answers, name, asked, client), spec, client)]
    return [_report(each) for each in lookup(answers, spec.networks, name, asked)]


def check_question(name: str, rtype: str, client: str | None) -> None:
    """ValueError in words."""
    if rtype.upper() not in EXPLAINED:
        raise ValueError(f"{rtype} is no type that is explained, those are {', '.join(EXPLAINED)}")
    encode_name(name)
    try:
        client_address(client or "127.0.0.1")
    except ValueError:
        raise ValueError(f"{client} is no address such as 203.0.113.9") from None


def from_configuration(spec: DnsSpec, name: str, rtype: str, client: str | None) -> list[Report]:
    """As if everybody were healthy: without traffic there is no health to know."""
    return reports_of(Answers(spec, lambda _: True, 0), spec, name, rtype, client)


def explain_names(runtime: Runtime, query: Mapping[str, str]) -> list[Report]:
    """From a running process, with the health of this moment."""
    settings, answers = runtime.settings, runtime.dns.answers
    if settings is None:
        return []
    return reports_of(answers, settings.dns, query.get("name", ""), query.get("type", "A"), query.get("client"))


def _report(explanation: Explanation, spec: DnsSpec | None = None, client: str = "") -> Report:
    report = asdict(explanation)
    packet = report.pop("packet")
    report["rcode"] = RCODE_NAMES[explanation.rcode] if packet else "not ours"
    report["answers"] = _records(packet)
    report["refused"] = _refusal(spec, explanation, client) if spec is not None else ""
    if report["refused"]:
        report["rcode"], report["answers"] = RCODE_NAMES[Rcode.REFUSED], []
    return report


def _refusal(spec: DnsSpec, explanation: Explanation, client: str) -> str:
    """Why this client is refused; empty if it is not."""
    allow = spec.transport.allow
    if allow and PrefixMap((cidr, True) for cidr in allow).find(client_address(client)) is None:
        return f"dns.allow does not have {client}"
    if explanation.packet:
        return ""
    routes = Routes(spec.resolvers, spec.forwarding.zones)
    if not routes.general and routes.zone_of(encode_name(explanation.asked).lower()) is None:
        return "not our name, and nobody is asked for it"
    if not Admission(HOME if spec.recursion is None else spec.recursion).may_recurse(client):
        return f"not our name, and {client} is not forwarded for"
    return ""


def _records(packet: bytes) -> list[str]:
    """Read by dnslib, of packets that we have made."""
    if not packet:
        return []
    return [" ".join(str(record).split()) for record in dnslib.DNSRecord.parse(packet).rr]


def show(report: Report) -> str:
    """For people: the view, what the name is, every instance with its reason, and the answer of this moment."""
    lines = [("asked", f"{report['asked']} {report['type']}"), ("view", report["network"] or "no network is known")]
    lines += (("alias of", alias) for alias in report["aliases"])
    zone = f" in {report['zone']}" if report["zone"] else ""
    lines.append(("is", report["kind"] + zone))
    if report["policy"]:
        lines.append(("policy", f"{report['policy']}, {report['all_unhealthy']} when nobody is healthy"))
    for each in report["candidates"]:
        use = f"left out: {each['why_not']}" if each["why_not"] else f"first in {each['share']:.3g} of all"
        health = "healthy" if each["healthy"] else "unhealthy"
        where = " ".join(filter(None, (each["zone"], each["region"], each["location"])))
        place = f" in {where}" if where else ""
        port = f" port {each['port']}" if each["port"] else ""
        lines.append(("instance", f"{each['id']} {each['ip']}{port} weight {each['weight']} {health}{place}, {use}"))
    if report["refused"]:
        lines.append(("refused", report["refused"]))
    lines += (("answer", answer) for answer in report["answers"])
    if not report["answers"]:
        what = {"NOERROR": "no data", "not ours": "asked of the resolvers, or refused"}
        lines.append(("answer", what.get(report["rcode"], report["rcode"])))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)
