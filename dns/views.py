"""What a client sees, by where it is: its address gives its network, that says which names there are and what is near.

Clients for whom nothing differs share a view, and with it every answer. So where no namespace belongs to a network, and
nothing is answered by where somebody is, there is one view, however many networks were described.
"""

from __future__ import annotations

from dataclasses import dataclass

from .choice import ANYWHERE, Vantage, seen_by
from .prefixes import PrefixMap, client_address
from .specs import DnsSpec, NamespaceSpec, NetworkSpec
from .wire import encode_name

CLIENTS_REMEMBERED = 16384  # addresses; to find out costs 4 µs, to remember some 100 octets


@dataclass(frozen=True, slots=True)
class View:
    """`hidden` are the zones it does not have, by their origins."""

    hidden: frozenset[bytes] = frozenset()
    vantage: Vantage = ANYWHERE


class Views:
    """`only` is the view of everybody, where there is one."""

    __slots__ = ("_by_network", "_known", "_networks", "all", "only", "outside")

    def __init__(self, spec: DnsSpec) -> None:
        """ValueError in words if a network has no prefix such as 10.0.0.0/8, or a namespace an unknown one."""
        names = {network.name for network in spec.networks}
        for namespace in spec.namespaces:
            for name in namespace.networks:
                if name not in names:
                    raise ValueError(f"namespace {namespace.names[0]!r}: there is no network {name!r}")
        self._networks = PrefixMap((cidr, network) for network in spec.networks for cidr in network.cidrs)
        self.outside = _view(spec, NetworkSpec("", ()))
        self._by_network = {network: _view(spec, network) for network in spec.networks}
        self.all = tuple(dict.fromkeys([self.outside, *self._by_network.values()]))
        self.only = self.outside if len(self.all) == 1 else None
        self._known: dict[str, View] = {}

    def network_of(self, client: str) -> NetworkSpec | None:
        return self._networks.find(client_address(client))

    def of(self, client: str) -> View:
        if self.only is not None:
            return self.only
        view = self._known.get(client)
        if view is None:
            network = self.network_of(client)
            view = self.outside if network is None else self._by_network[network]
            if len(self._known) >= CLIENTS_REMEMBERED:
                self._known.clear()
            self._known[client] = view
        return view

    def of_network(self, network: NetworkSpec) -> View:
        return self._by_network[network]


def _view(spec: DnsSpec, network: NetworkSpec) -> View:
    seen = [each for each in spec.namespaces if not each.networks or network.name in each.networks]
    hidden = frozenset(encode_name(name).lower() for each in spec.namespaces if each not in seen for name in each.names)
    return View(hidden, _vantage(seen, Vantage(network.zone, network.region, network.location)))


def _vantage(seen: list[NamespaceSpec], vantage: Vantage) -> Vantage:
    """As much of it as any service looks at."""
    looked_at = [seen_by(service, vantage) for namespace in seen for service in namespace.services]
    return Vantage(
        max((each.zone for each in looked_at), default=""),
        max((each.region for each in looked_at), default=""),
        max((each.location for each in looked_at), default=""),
    )
