"""Why a name says to a client what it says: the same look-ups and the same choice, one step at a time.

Nothing is decided here. Who is left out is read off the steps that answers are made by.
"""

from __future__ import annotations

from dataclasses import dataclass

from .answers import CHAIN_LIMIT, FIXED_SIZE, Answers
from .choice import order_of, steps
from .instances import Instance
from .services import Service
from .specs import NetworkSpec
from .views import View
from .wire import CLASS_IN, HEADER_SIZE, RCODE_MASK, RD, TCP_SIZE, Question, Type, encode_name
from .zones import AnyNode, InstanceNode, Node, ReverseNode, Zone


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance of the service that was asked for. `share` is how often it is first; 0 if it is never answered."""

    id: str
    ip: str
    port: int
    weight: int
    healthy: bool
    zone: str
    region: str
    location: str
    share: float
    why_not: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`aliases` are where CNAMEs led. `packet` is the answer as TCP would have it; empty where the name is not ours."""

    asked: str
    type: str
    network: str
    zone: str
    kind: str
    aliases: tuple[str, ...]
    policy: str
    all_unhealthy: str
    candidates: tuple[Candidate, ...]
    rcode: int
    packet: bytes


def explain(answers: Answers, name: str, rtype: Type, client: str) -> Explanation:
    """ValueError in words if `name` is no name or `client` no address."""
    network = answers.views.network_of(client)
    return _explain(answers, name, rtype, answers.views.of(client), network.name if network else "")


def lookup(answers: Answers, networks: tuple[NetworkSpec, ...], name: str, rtype: Type) -> list[Explanation]:
    """One for every view that there is, named by the networks that share it; the last is everybody else's."""
    shared: dict[View, list[str]] = {}
    for network in networks:
        shared.setdefault(answers.views.of_network(network), []).append(network.name)
    others = shared.pop(answers.views.outside, [])
    views = [(view, ", ".join(names)) for view, names in shared.items()]
    everybody = ", ".join([*others, "everybody else"]) if views or others else "everybody"
    return [_explain(answers, name, rtype, view, names) for view, names in [*views, (answers.views.outside, everybody)]]


def _explain(answers: Answers, name: str, rtype: Type, view: View, network: str) -> Explanation:
    wire = encode_name(name)
    question = Question(0, RD, wire + rtype.to_bytes(2) + CLASS_IN.to_bytes(2), rtype, CLASS_IN)
    zone, node, synthesised = answers.registry.find(question.key, view.hidden)
    aliases: list[str] = []
    while rtype != Type.ANY and node is not None and node.ring(rtype, view.vantage) is None:
        alias = node.ring(Type.CNAME, view.vantage)
        if alias is None or len(aliases) == CHAIN_LIMIT:
            break
        target = alias.tail(b"", full=False)()[2 + FIXED_SIZE :]
        aliases.append(as_text(target))
        zone, node, synthesised = answers.registry.find(target, view.hidden)
    reply = answers.reply(question, TCP_SIZE, view)
    packet = b"" if reply is None else bytes(2) + reply.head + reply.tail()
    service = _service(node, rtype)
    return Explanation(
        asked=as_text(wire),
        type=rtype.name,
        network=network,
        zone=as_text(zone.origin) if zone is not None else "",
        kind=_kind(zone, node, service, synthesised=synthesised),
        aliases=tuple(aliases),
        policy=service.spec.policy if service else "",
        all_unhealthy=service.spec.all_unhealthy if service else "",
        candidates=_candidates(service, rtype, view) if service else (),
        rcode=int.from_bytes(packet[2:4]) & RCODE_MASK if len(packet) >= HEADER_SIZE else 0,
        packet=packet,
    )


def as_text(name: bytes) -> str:
    """A name in wire form as it is written, without the final dot."""
    labels: list[str] = []
    at = 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]].decode("latin-1"))
        at += name[at] + 1
    return ".".join(labels) or "."


def _service(node: AnyNode | None, rtype: Type) -> Service | None:
    served = node.served.get(rtype) if isinstance(node, Node) else None
    return served.service if served is not None else None


def _kind(zone: Zone | None, node: AnyNode | None, service: Service | None, *, synthesised: bool) -> str:
    if zone is None:
        return "not ours"
    if node is None:
        return "does not exist"
    if synthesised:
        return "a wildcard"
    if isinstance(node, InstanceNode):
        return "an instance"
    if isinstance(node, ReverseNode):
        return "an address of instances"
    if service is not None:
        return "a service"
    return "written down" if node.static else "a name"


def _candidates(service: Service, rtype: Type, view: View) -> tuple[Candidate, ...]:
    of_type = service.of_type(rtype) if rtype in (Type.A, Type.AAAA) else list(service.by_id.values())
    left, why_not = of_type, dict[str, str]()
    for why, after in steps(service.spec, of_type, view.vantage, service.latencies, service.last_healthy):
        kept = {each.spec.id for each in after}
        why_not |= {each.spec.id: why for each in left if each.spec.id not in kept}
        left = after
    shares = _shares(service, left)
    return tuple(
        Candidate(
            id=each.spec.id,
            ip=each.spec.ip,
            port=each.spec.port,
            weight=each.spec.weight,
            healthy=each.healthy,
            zone=each.spec.zone,
            region=each.spec.region,
            location=each.spec.location,
            share=shares.get(each.spec.id, 0.0),
            why_not=why_not.get(each.spec.id, ""),
        )
        for each in of_type
    )


def _shares(service: Service, chosen: list[Instance]) -> dict[str, float]:
    places = order_of(service.spec, [each.spec.weight for each in chosen]).places
    counted = dict.fromkeys(range(len(chosen)), 0)
    for index in places:
        counted[index] += 1
    return {each.spec.id: counted[index] / len(places) for index, each in enumerate(chosen)}
