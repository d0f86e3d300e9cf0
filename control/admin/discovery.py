"""Service discovery over HTTP, in Cloud Map's words: who is behind a name, and instances that come, live and go.

    GET    /namespaces                                          ListNamespaces
    GET    /namespaces/NAMESPACE/services                       ListServices
    GET    /namespaces/NAMESPACE/services/SERVICE/instances     DiscoverInstances, or wait for what changes
    PUT    .../instances/ID                                     RegisterInstance
    DELETE .../instances/ID                                     DeregisterInstance
    PUT    .../instances/ID/heartbeat
    PUT    .../instances/ID/health                              UpdateInstanceCustomHealthStatus

Whoever reaches the address may read. To write is for the addresses that `registration.allow` has, and for no browser:
its pages would be strangers on an address that is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from aiohttp import web

from ...dns.discover import DEFAULT_RESULTS, MOST_RESULTS, HealthFilter, Query
from ...dns.instances import Instance
from ...dns.registrations import Full, Key
from ..config.models_registration import Mistakes
from ..config.scalars import parse_duration
from ..discovery import LONGEST_WAIT, NotTaken, TooManyWait, Unknown

if TYPE_CHECKING:
    from ..runtime import Runtime

# Octets. Attributes are at most 5000 characters, each of them at most twelve when escaped in JSON.
BODY_LIMIT: Final = 64 * 1024
RETRY_AFTER: Final = 5  # seconds, for those who may not wait here

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.Response]]
Respond = Callable[..., web.Response]

QUERY: Final = ("health_status", "max_results", "wait", "revision", "query.KEY", "optional.KEY")
STATUSES: Final = (
    (Mistakes, HTTPStatus.BAD_REQUEST),
    (Unknown, HTTPStatus.NOT_FOUND),
    (NotTaken, HTTPStatus.CONFLICT),
    (Full, HTTPStatus.INSUFFICIENT_STORAGE),
    (TooManyWait, HTTPStatus.SERVICE_UNAVAILABLE),
)


def add_discovery(app: web.Application, runtime: Runtime, respond: Respond, problem: Respond) -> None:
    """`respond` makes JSON of an object, `problem` a problem document of a status and sentences."""
    discovery = runtime.discovery

    async def namespaces(_: web.Request) -> web.Response:
        found = runtime.settings.dns.namespaces if runtime.settings else ()
        return respond({"namespaces": [{"name": each.names[0], "zones": list(each.names)} for each in found]})

    async def services(request: web.Request) -> web.Response:
        name = request.match_info["namespace"].lower()
        found = runtime.settings.dns.namespaces if runtime.settings else ()
        for namespace in found:
            if namespace.names[0].lower() == name:
                known = (runtime.dns.answers.registry.known(name, each.name) for each in namespace.services)
                return respond({"services": [
                    {
                        "name": each.spec.name,
                        "routing_policy": each.spec.policy,
                        "dns_records": [{"type": rtype, "ttl": ttl} for rtype, ttl in each.ttls.items()],
                        "instance_count": len(each.by_id),
                        "instances_revision": each.revision,
                    }
                    for each in known
                ]})  # fmt: skip
        raise Unknown(f"there is no namespace {name!r}")

    async def instances(request: web.Request) -> web.Response:
        namespace, service = request.match_info["namespace"], request.match_info["service"]
        query, wait, revision = _query(request)
        if revision is not None:
            await discovery.changed(namespace, service, revision, wait)
        now, found = discovery.discover(namespace, service, query)
        shown = [_instance(each, Key.of(namespace, service, each.spec.id), runtime) for each in found]
        return respond({"instances_revision": now, "instances": shown})

    async def register(request: web.Request) -> web.Response:
        place = _place(request)
        body = await _body(request)
        is_new = discovery.register(*place, **body)
        revision, _ = discovery.discover(*place[:2], Query(max_results=0))
        return respond({"instances_revision": revision}, status=HTTPStatus.CREATED if is_new else HTTPStatus.OK)

    async def deregister(request: web.Request) -> web.Response:
        return respond({"drain_seconds": discovery.deregister(*_place(request))})

    async def heartbeat(request: web.Request) -> web.Response:
        discovery.heartbeat(*_place(request))
        return respond({})

    async def health(request: web.Request) -> web.Response:
        body = await _body(request)
        if body.keys() != {"status"}:
            raise Mistakes('must be {"status": "HEALTHY"}, or UNHEALTHY, or AUTO')
        discovery.set_health(*_place(request), body["status"])
        return respond({})

    def write(handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.Response:
            if "Origin" in request.headers:
                return problem(HTTPStatus.FORBIDDEN, "a page in a browser has sent this, and none may write here")
            if not _may_write(runtime, request.remote):
                allowed = "service_discovery.registration.allow"
                return problem(HTTPStatus.FORBIDDEN, f"{request.remote} may read and not write: {allowed} has it not")
            return await handler(request)

        return guarded

    service = "/namespaces/{namespace}/services/{service}/instances"
    for method, path, handler in (
        ("GET", "/namespaces", namespaces),
        ("GET", "/namespaces/{namespace}/services", services),
        ("GET", service, instances),
        ("PUT", service + "/{id}", write(register)),
        ("DELETE", service + "/{id}", write(deregister)),
        ("PUT", service + "/{id}/heartbeat", write(heartbeat)),
        ("PUT", service + "/{id}/health", write(health)),
    ):
        app.router.add_route(method, path, _in_words(handler, problem))


def _in_words(handler: Handler, problem: Respond) -> Handler:
    @wraps(handler)
    async def answered(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (Mistakes, ValueError) as error:
            for kind, status in STATUSES:
                if isinstance(error, kind):
                    mistakes = error.mistakes if isinstance(error, Mistakes) else (str(error),)
                    headers = {"Retry-After": str(RETRY_AFTER)} if kind is TooManyWait else {}
                    return problem(status, *mistakes, headers=headers)
            raise

    return answered


def _may_write(runtime: Runtime, client: str | None) -> bool:
    if runtime.settings is None or client is None:
        return False
    address = ip_address(client)
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in runtime.settings.registration.allow)


def _place(request: web.Request) -> tuple[str, str, str]:
    return request.match_info["namespace"], request.match_info["service"], request.match_info["id"]


async def _body(request: web.Request) -> Json:
    try:
        body = json.loads(await request.read(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Mistakes("the body is no JSON") from None
    if not isinstance(body, dict):
        raise Mistakes('the body must be a mapping, such as {"ip": "192.0.2.10", "port": 8080}')
    return body


def _refuse(word: str) -> float:
    raise ValueError(word)


def _query(request: web.Request) -> tuple[Query, float, int | None]:
    """What is asked, for how many seconds to wait, and for another revision than which. May raise Mistakes."""
    mistakes = list[str]()
    health: HealthFilter = "HEALTHY_OR_ELSE_ALL"
    results, wait, revision = DEFAULT_RESULTS, 0.0, None
    parameters, optional = list[tuple[str, str]](), list[tuple[str, str]]()
    for key, value in request.query.items():
        digits = value.isascii() and value.isdigit() and len(value) < 17
        if key.startswith("query."):
            parameters.append((key.removeprefix("query."), value))
        elif key.startswith("optional."):
            optional.append((key.removeprefix("optional."), value))
        elif key == "health_status":
            if value in get_args(HealthFilter):
                health = cast("HealthFilter", value)
            else:
                mistakes.append(f"health_status: must be one of {', '.join(get_args(HealthFilter))}")
        elif key == "max_results":
            results = int(value) if digits else 0
            if not 1 <= results <= MOST_RESULTS:
                mistakes.append(f"max_results: must be a whole number from 1 to {MOST_RESULTS}")
        elif key == "revision":
            revision = int(value) if digits else None
            if not digits:
                mistakes.append("revision: must be the instances_revision of an answer before")
        elif key == "wait":
            try:
                wait = parse_duration(value, 0, LONGEST_WAIT)
            except ValueError as error:
                mistakes.append(f"wait: {error}")
        else:
            mistakes.append(f"{key[:40]}: unknown, the parameters are {', '.join(QUERY)}")
    if wait and revision is None and "revision" not in request.query:
        mistakes.append("revision: is missing: say which one you know, to wait for another")
    if mistakes:
        raise Mistakes(*mistakes)
    return Query(tuple(parameters), tuple(optional), health, results), wait, revision


def _instance(instance: Instance, key: Key, runtime: Runtime) -> Json:
    spec = instance.spec
    said = runtime.discovery.word(key)
    return {
        "instance_id": spec.id,
        "health_status": "HEALTHY" if instance.healthy else "UNHEALTHY",
        "ip": spec.ip,
        "port": spec.port or None,
        "weight": spec.weight,
        "attributes": dict(spec.attributes),
        "zone": spec.zone,
        "region": spec.region,
        "location": spec.location,
        "failover": spec.failover,
        "registered": runtime.discovery.is_registered(key),
        "custom_health_status": said,
    }
