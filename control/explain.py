"""`penstock explain`: the decision on one request, from a configuration alone, as a record and as lines to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from ..proxy.decision import Asked, Decision, Surroundings, decide
from ..proxy.firewall import Firewall
from ..proxy.http_fields import BadMessage, field_line, is_token, parse_host
from ..proxy.recent import Served
from ..proxy.rules import RuleTable
from ..proxy.specs import FirewallSpec, ListenerSpec, ProxySpec
from ..proxy.tls import certificates_for, guard_for

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
FITTING: Final = {"http": ("HTTP", "TCP"), "https": ("HTTPS", "TLS", "TCP")}  # TCP relays whatever is spoken
SOURCE_PORT: Final = 50_000  # of clients, where an ACL asks for it: inside Linux's, Windows' and AWS's ephemeral ports


class NoDecisionError(Exception):
    """Why there is nothing to explain, as a sentence."""


def explained(
    proxy: ProxySpec,
    method: str,
    url: str,
    source: str,
    headers: Iterable[str],
    to: str | None,
    sni: str | None = None,
) -> list[dict[str, Any]]:
    """One report for every listener that could be meant."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise NoDecisionError(f"{url} is no URL: {error}") from None
    if not (parts.scheme in FITTING and parts.hostname and url.isascii() and url.isprintable() and " " not in url):
        raise NoDecisionError(f"{url} is no URL such as https://app.example.org/path")
    for address in (source, *filter(None, [to])):
        try:
            ip_address(address)
        except ValueError:
            raise NoDecisionError(f"{address} is no address such as 203.0.113.9") from None
    fields = tuple(_fields(headers))
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1:
        raise NoDecisionError("a request with two Host fields is answered with 400, before any rule")
    host = hosts[0] if hosts else parts.netloc.rpartition("@")[2].encode()
    try:
        parse_host(host)
    except BadMessage:
        raise NoDecisionError(f"{host.decode('latin-1')} is no host") from None
    if is_token(method.encode()) is None:
        raise NoDecisionError(f'"{method}" is no method such as GET')
    if method in ("CONNECT", "TRACE"):
        raise NoDecisionError(f"{method} is answered with 405, before any rule")
    if sni is not None and parts.scheme != "https":
        raise NoDecisionError("a server name is said in TLS alone: ask for https://")
    server_name = _usual_server_name(parts.hostname) if sni is None else sni
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    reports: list[dict[str, Any]] = []
    for spec in _listeners(proxy, parts.scheme, port, to):
        asked = Asked(
            source,
            SOURCE_PORT,
            to or spec.address,
            spec.port,
            method.encode(),
            host,
            target.encode(),
            fields,
            server_name or None,
        )
        decision = decide(asked, _surroundings(proxy, spec))
        reports.append({"asked": f"{method} {url}", "source": source, **_report(decision)})
    return reports


def _usual_server_name(host: str) -> str:
    """What clients ask for in TLS: the host of the URL, unless that is an address (RFC 6066 section 3)."""
    try:
        ip_address(host)
    except ValueError:
        return host
    return ""


def _fields(headers: Iterable[str]) -> Iterator[tuple[bytes, bytes]]:
    for header in headers:
        line = header.encode("latin-1", "replace")
        if field_line(line) is None:
            raise NoDecisionError(f'"{header}" is no header field such as "x-version: 2"')
        name, _, value = line.partition(b":")
        yield name, value.strip(b" \t")


def _listeners(proxy: ProxySpec, scheme: str, port: int, to: str | None) -> list[ListenerSpec]:
    at_port = [spec for spec in proxy.listeners if spec.port == port]
    if not at_port:
        known = ", ".join(f"{spec.key} ({spec.protocol})" for spec in proxy.listeners) or "none"
        raise NoDecisionError(f"no listener is on port {port}; listeners: {known}")
    fitting = [spec for spec in at_port if spec.protocol in FITTING[scheme]]
    if not fitting:
        raise NoDecisionError(f"{at_port[0].key} speaks {at_port[0].protocol}, not {scheme}")
    if to is not None:
        fitting = [spec for spec in fitting if spec.address in (to, "0.0.0.0", "::")]
        if not fitting:
            raise NoDecisionError(f"no listener on port {port} has the address {to}")
    return fitting


def _surroundings(proxy: ProxySpec, spec: ListenerSpec) -> Surroundings:
    compiled: dict[FirewallSpec, Firewall] = {}

    def firewall(wanted: FirewallSpec) -> Firewall:
        return compiled.setdefault(wanted, Firewall(wanted)) if wanted not in compiled else compiled[wanted]

    return Surroundings(
        spec,
        RuleTable(spec.rules, spec.default_action),
        firewall(spec.firewall),
        {group.name: group for group in proxy.target_groups},
        {name: firewall(each) for name, each in proxy.group_firewalls},
        lambda _group, _target: True,  # without traffic there is no health to know
        lambda name: certificates_for(spec.certificates, name),
        lambda name: guard_for(spec.certificates, name),
    )


def live_report(decision: Decision, served: Served) -> dict[str, Any]:
    """The same record of a request that was served, and how that ended."""
    asked = served.asked
    outcome = {
        "status": served.status,
        "reason": served.reason,
        "rule": served.rule,
        "target_group": served.target_group,
        "target": served.target,
    }
    url = f"{asked.method.decode('latin-1')} {asked.host.decode('latin-1')}{asked.target.decode('latin-1')}"
    return {"asked": url, "source": asked.source, **_report(decision), "outcome": outcome}


def _report(decision: Decision) -> dict[str, Any]:
    report = asdict(decision)
    report["admitted"] = decision.admitted
    report["rule"] = decision.rule
    report["tried"] = [{**each, "met": each["met"].decode("latin-1")} for each in report["tried"]]
    return report


def show(report: dict[str, Any]) -> str:
    """For people: one line per step, in the order in which they were taken."""
    lines = [("request", f"{report['asked']} from {report['source']}")]
    lines.append(("listener", f"{report['listener']} of {report['load_balancer']}"))
    lines += (
        ("allowed" if verdict["allowed"] else "DENIED", f"{verdict['reason']} [{verdict['rule']}]")
        for verdict in report["verdicts"]
    )
    if not report["verdicts"]:
        lines.append(("allowed", "no security group and no network ACL has a say"))
    if report["certificates"]:
        lines.append(("certificate", " or ".join(report["certificates"])))
    if report["misdirected"]:
        asked_for = f"the client asked for {report['server_name']} in TLS"
        lines.append(("421", f"{asked_for}, and the request's host is another certificate's"))
    for tried in report["tried"]:
        name = tried["rule"] if tried["rule"] == "default" else f"rule {tried['rule']}"
        lines.append((name, f'no, {tried["failed"]} is "{tried["met"]}"' if tried["failed"] else "takes it"))
    if report["filters"]:
        lines.append(("filters", f"{', then '.join(report['filters'])}: each may change it, or answer in its place"))
    if report["action"] and report["answer"]:
        lines.append((report["action"], report["answer"]))
    if report["sent_target"]:
        lines.append(("sent as", f"{report['sent_target']} to {report['sent_host']}"))
    for share in report["shares"]:
        lines.append(("forward", f"{share['target_group']}, {share['share']:.3g} of all, by {share['algorithm']}"))
        for candidate in share["candidates"]:
            why = f": {candidate['why_not']}" if candidate["why_not"] else ""
            use = "may be picked" if candidate["picked"] else "is not picked"
            lines.append(("target", f"{candidate['target']} weight {candidate['weight']} {use}{why}"))
        if not share["candidates"]:
            lines.append(("target", "none, so the answer is 503"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)
