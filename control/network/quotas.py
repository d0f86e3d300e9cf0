"""How many of each there may be. The defaults are AWS's; each can be raised, and a refusal names the one to raise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html, as of 2026-11."""

    networks: int = 5
    cidrs_per_network: int = 5
    subnets_per_network: int = 200
    route_tables_per_network: int = 200
    routes_per_table: int = 50  # those that are written; local ones come with the network
    internet_gateways: int = 5
    nat_gateways_per_zone: int = 5
    peerings_per_network: int = 50
    prefix_lists: int = 100
    entries_per_prefix_list: int = 1000
    security_groups: int = 2500
    rules_per_security_group: int = 60  # a direction, and a family: a peer that is no CIDR counts in both
    security_groups_per_interface: int = 5
    network_acls_per_network: int = 200
    rules_per_network_acl: int = 20  # a direction and a family, with the implicit one
    network_interfaces: int = 5000


DEFAULT_QUOTAS = Quotas()
