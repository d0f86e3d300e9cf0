"""What exists: the zones, every name in them, and which instances hang on whose health.

Compiled from a DnsSpec. Afterwards instances come and go and change their health; what one such change costs grows with
the instances of its service, never with those of all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from ipaddress import ip_address

from . import records, static
from .instances import Instance
from .policy.latency import table
from .rings import Dependent, Ring
from .services import Service, ServiceRecords, ServiceZone, address_ring, target_ring
from .specs import DnsSpec, InstanceSpec, NamespaceSpec
from .wire import ANSWERS_SIZE, HEADER_SIZE, NAME_LIMIT, QUESTION_NAME, Type, encode_name, record, suffixes
from .zones import AnyNode, InstanceNode, Node, ReverseNode, Serial, Zone

IsHealthy = Callable[[InstanceSpec], bool]
NOTHING_HIDDEN: frozenset[bytes] = frozenset()
WILDCARD = b"\1*"
_ADDRESSES = (Type.A, Type.AAAA)

# Serials are seconds since 1970, or a few more. Changes that come faster than one in a microsecond would have a restart
# take revisions back; and the product is less than 2**53, so that JSON's readers have it whole.
REVISIONS_PER_SERIAL = 1_000_000


class Registry:
    """Names and zones by their lower-cased wire form; services by the names of namespace and service."""

    __slots__ = ("_by_health", "_is_healthy", "_serial", "changes", "names", "services", "zones")

    def __init__(self, spec: DnsSpec, is_healthy: IsHealthy, serial: int, before: Registry | None = None) -> None:
        """ValueError in words if the specification contradicts itself or DNS."""
        self.names: dict[bytes, AnyNode] = {}
        self.zones: dict[bytes, Zone] = {}
        self.services: dict[tuple[str, str], Service] = {}
        self._is_healthy = is_healthy
        self._by_health: dict[Hashable, list[tuple[Service, Instance]]] = {}
        self._serial = Serial(serial)
        self.changes = 0  # since it was made, of what secondaries would have
        for namespace in spec.namespaces:
            for name in namespace.names:
                self._add_zone(namespace, encode_name(name).lower())
        latencies = table(spec.latencies)
        for namespace in spec.namespaces:
            _refuse_doubles(f"namespace {namespace.names[0]!r}: service", (s.name for s in namespace.services))
            for each in namespace.services:
                service = Service(each, (), latencies, serial * REVISIONS_PER_SERIAL)
                self.services[namespace.names[0].lower(), each.name.lower()] = service
                for name in namespace.names:
                    self._add_service(service, self.zones[encode_name(name).lower()])
                _refuse_doubles(f"service {each.name!r}: instance", (instance.id for instance in each.instances))
                for instance in each.instances:
                    self._add_instance(service, instance)
                service.note_healthy()
        servers = [records.address(ip) for ip, _ in spec.listen if not ip_address(ip).is_unspecified]
        for namespace in spec.namespaces:
            for name in namespace.names:
                zone = self.zones[encode_name(name).lower()]
                self._add_static(zone, namespace)
                self._add_server(zone, servers)
        if before is not None:
            self._remember(before)

    def find(self, name: bytes, hidden: frozenset[bytes] = NOTHING_HIDDEN) -> tuple[Zone | None, AnyNode | None, bool]:
        """The zone that answers for a name, the name if it exists or a wildcard stands in for it, and whether one does.

        No zone: the name is not ours to answer. A wildcard stands in for what is below the closest name that exists,
        and for nothing else (RFC 4592 section 3.3.1).
        """
        node = self._seen(name, hidden)
        if node is not None:
            return node.zone, node, False
        zone = encloser = None
        for suffix in suffixes(name)[1:]:
            above = self._seen(suffix, hidden)
            if above is not None:
                zone, encloser = above.zone, suffix
                break
        if zone is None or encloser is None:
            return None, None, False
        wildcard = self._seen(WILDCARD + encloser, hidden)
        return zone, wildcard, wildcard is not None

    def health_changed(self, keys: Iterable[Hashable]) -> list[Dependent]:
        """What hangs on these keys is looked at again. Returns what is over with that."""
        touched: dict[Service, set[Type]] = {}
        for key in keys:
            for service, instance in self._by_health.get(key, ()):
                before, instance.healthy = instance.healthy, self._is_healthy(instance.spec)
                self.changes += before != instance.healthy
                touched.setdefault(service, set()).add(instance.rtype)
        return [each for service, families in touched.items() for each in service.changed(families)]

    def register(self, namespace: str, service: str, spec: InstanceSpec) -> list[Dependent]:
        """An instance comes, or takes the place of the one with its id. ValueError in words if it cannot."""
        found = self.known(namespace, service)
        before = found.by_id.get(spec.id.lower())
        if before is not None and before.spec.ip == spec.ip:
            return self._replace(found, before, spec)
        over = self.deregister(namespace, service, spec.id) if before is not None else []
        instance = self._add_instance(found, spec)
        self.changes += 1
        return [*over, *found.changed((instance.rtype,))]

    def deregister(self, namespace: str, service: str, instance_id: str) -> list[Dependent]:
        """ValueError in words if it is not there."""
        found = self.known(namespace, service)
        instance = found.by_id.pop(instance_id.lower(), None)
        if instance is None:
            raise ValueError(f"service {service!r} of namespace {namespace!r} has no instance {instance_id!r}")
        over: list[Dependent] = []
        for place in found.places:
            node = self.names[instance.label + place.name]
            if isinstance(node, InstanceNode) and node.instance is instance:
                del self.names[instance.label + place.name]
                over.append(node)
        reverse_name = records.reverse_name(instance.spec.ip)
        reverse = self.names.get(reverse_name)
        if isinstance(reverse, ReverseNode):
            over.append(reverse)
            reverse.targets = tuple([each for each in reverse.targets if each.instance is not instance])
            if not reverse.targets:
                del self.names[reverse_name]
        self._unhook(found, instance)
        self.changes += 1
        return [*over, *found.changed((instance.rtype,))]

    def move_serial(self, number: int) -> list[Dependent]:
        """The SOA of every zone says this from now on. Returns what is over with that."""
        self._serial.number = number
        over: list[Dependent] = []
        for origin, zone in self.zones.items():
            apex = self.names[origin]
            assert isinstance(apex, Node)
            over.append(apex.static[Type.SOA])
            apex.static[Type.SOA] = Ring([zone.soa(HEADER_SIZE)])
        return over

    def _replace(self, service: Service, instance: Instance, spec: InstanceSpec) -> list[Dependent]:
        """Where its address stays it stays in its place: the order of answers is no one's news."""
        self._unhook(service, instance)
        instance.spec, instance.healthy = spec, self._is_healthy(spec)
        self._hook(service, instance)
        self.changes += 1
        nodes = (self.names.get(instance.label + place.name) for place in service.places)
        over = [node for node in nodes if isinstance(node, InstanceNode) and node.instance is instance]
        return [*over, *service.changed((instance.rtype,))]

    def _hook(self, service: Service, instance: Instance) -> None:
        if instance.spec.health_key is not None:
            self._by_health.setdefault(instance.spec.health_key, []).append((service, instance))

    def _unhook(self, service: Service, instance: Instance) -> None:
        key = instance.spec.health_key
        if key is not None:
            hanging = self._by_health[key]
            hanging.remove((service, instance))
            if not hanging:
                del self._by_health[key]

    def known(self, namespace: str, service: str) -> Service:
        """ValueError in words if it is not."""
        found = self.services.get((namespace.lower(), service.lower()))
        if found is None:
            raise ValueError(f"there is no service {service!r} in a namespace {namespace!r}")
        return found

    def _seen(self, name: bytes, hidden: frozenset[bytes]) -> AnyNode | None:
        node = self.names.get(name)
        if node is None or not hidden:
            return node
        if isinstance(node, ReverseNode):
            return node.seen(hidden)
        return None if node.zone.origin in hidden else node

    def _zone_of(self, name: bytes) -> Zone | None:
        return next((self.zones[suffix] for suffix in suffixes(name) if suffix in self.zones), None)

    def _add_zone(self, namespace: NamespaceSpec, origin: bytes) -> None:
        if origin in self.zones:
            raise ValueError(f"namespace {namespace.names[0]!r}: another namespace answers under the same name")
        names = (b"\2ns" + origin, b"\nhostmaster" + origin)
        zone = Zone(origin, *names, namespace.ttl, namespace.negative_ttl, self._serial)
        self.zones[origin] = zone
        self.names[origin] = Node(zone, {rtype: Ring([answer]) for rtype, answer in zone.apex_records()})

    def _add_server(self, zone: Zone, servers: Sequence[tuple[Type, bytes]]) -> None:
        """`ns.<zone>` has the addresses that we listen on, unless somebody else took the name."""
        if zone.server in self.names:
            return
        node = self._add_name(zone, zone.server)
        for rtype in _ADDRESSES:
            own = dict.fromkeys(rdata for family, rdata in servers if family == rtype)
            if own and node is not None:
                node.static[rtype] = Ring([record(QUESTION_NAME, rtype, zone.ttl, rdata) for rdata in own])

    def _add_static(self, zone: Zone, namespace: NamespaceSpec) -> None:
        for spec in namespace.records:
            name = static.owner(spec.name, zone.origin)
            values = dict.fromkeys(static.rdata(spec, value, zone.origin) for value in spec.values)
            if not values:
                raise ValueError(f"record {spec.name!r}: it has no value")
            if static.size(rdata for _, rdata in values) > ANSWERS_SIZE:
                raise ValueError(f"record {spec.name!r}: its {len(values)} values do not fit into an answer")
            node = self._add_name(zone, name)
            if node is None:
                continue
            (rtype,) = {rtype for rtype, _ in values}
            there = set(node.types())
            if rtype in there:
                raise ValueError(f"record {spec.name!r}: this name has {spec.type} records already")
            if (rtype == Type.CNAME and there) or Type.CNAME in there or (len(values) > 1 and rtype == Type.CNAME):
                raise ValueError(f"record {spec.name!r}: a CNAME stands alone, this name has other records")
            node.static[rtype] = Ring([record(QUESTION_NAME, rtype, spec.ttl, rdata) for _, rdata in values])

    def _add_service(self, service: Service, zone: Zone) -> None:
        place = ServiceZone(service, zone)
        service.places.append(place)
        self._add_name(zone, place.name)
        prefix = encode_name(".".join(service.spec.srv_labels)).lower()[:-1]
        for rtype_name, ttl in service.spec.records:
            rtype = Type[rtype_name]
            if rtype in _ADDRESSES:
                self._serve(place, place.name, rtype, partial(address_ring, service, rtype, ttl))
                continue
            # SRV at the service's own name as in Cloud Map, and at `_http._tcp.<service>` as in RFC 2782.
            for owner in (place.name, prefix + place.name) if rtype == Type.SRV else (place.name,):
                self._serve(place, owner, rtype, partial(target_ring, place, owner, rtype, ttl))

    def _serve(self, place: ServiceZone, name: bytes, rtype: Type, make: Callable[..., Ring]) -> None:
        node = self._add_name(place.zone, name)
        if node is not None:
            node.served[rtype] = ServiceRecords(place.service, rtype if rtype in _ADDRESSES else None, make)
            place.service.record_sets.append(node.served[rtype])

    def _add_instance(self, service: Service, spec: InstanceSpec) -> Instance:
        instance = Instance(spec, healthy=self._is_healthy(spec))
        nodes = [InstanceNode(place, instance) for place in service.places]
        for node in nodes:
            name = node.name
            if len(name) > NAME_LIMIT:
                raise ValueError(f"{name[1:].decode()!r}: with its zone the name is longer than DNS allows")
            if name in self.names:
                raise ValueError(f"instance {spec.id!r} of service {service.spec.name!r}: its name is taken")
        for node in nodes:
            if self._zone_of(node.name) is node.zone:
                self.names[node.name] = node
        service.by_id[spec.id.lower()] = instance
        self._hook(service, instance)
        name = records.reverse_name(spec.ip)
        if self._zone_of(name) is None:
            reverse = self.names.setdefault(name, ReverseNode(name))
            assert isinstance(reverse, ReverseNode), "whatever else has a name has a zone"
            reverse.targets = (*reverse.targets, nodes[0])
        return instance

    def _add_name(self, zone: Zone, name: bytes) -> Node | None:
        """The node of that name, made with all nodes between it and the apex; None if a zone further down has it."""
        if len(name) > NAME_LIMIT:
            raise ValueError(f"{name[1:].decode()!r}: with its zone the name is longer than DNS allows")
        if self._zone_of(name) is not zone:
            return None
        for suffix in suffixes(name):
            if suffix == zone.origin:
                break
            self.names.setdefault(suffix, Node(zone))
        node = self.names[name]
        if not isinstance(node, Node):
            raise ValueError(f"{name[1:].decode()!r}: an instance has this name")
        return node

    def _remember(self, before: Registry) -> None:
        """Who was healthy last, of services all of whose instances have been unhealthy since before this began.

        Revisions go on where they were.
        """
        for key, service in self.services.items():
            was = before.services.get(key)
            if was is None:
                continue
            service.last_healthy = service.last_healthy or was.last_healthy
            service.revision = max(service.revision, was.revision + 1)


def _refuse_doubles(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in map(str.lower, names):
        if name in seen:
            raise ValueError(f"{what} {name!r} is there twice")
        seen.add(name)
