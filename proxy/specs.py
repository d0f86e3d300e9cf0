"""What a load balancer, listener, rule, target group, target, security group and ACL are.

This file describes work and does none. Everything here is frozen, so a request may hold a reference to the
configuration it began under. Times are seconds, sizes are bytes, addresses are literals as text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .limit_specs import GroupLimits, ListenerLimits, ProcessLimits

ListenerProtocol = Literal["HTTP", "HTTPS", "TCP", "TLS", "UDP"]
TargetProtocol = Literal["HTTP", "HTTPS", "TCP", "TLS", "UDP"]
ClientCertificateMode = Literal["optional", "required", "passthrough"]
ProtocolVersion = Literal["HTTP1", "HTTP2", "GRPC"]
CheckProtocol = Literal["HTTP", "HTTPS", "TCP", "GRPC", "GRPCS"]
Algorithm = Literal[
    "round_robin",
    "least_outstanding_requests",
    "weighted_random",
    "power_of_two_choices",
    "ewma",
    "consistent_hash",
]
IpProtocol = Literal["tcp", "udp", "icmp", "all"]
ProxyProtocol = Literal["v1", "v2"]

ALL_PORTS = (0, 65535)
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class RetrySpec:
    """A request that may be repeated, and of whose answer nothing was relayed, goes to another target. Envoy's figures.

    The budget bounds how many are out at once, as a share of what is in flight: when everything fails, trying
    everything twice is the last thing that helps.
    """

    attempts: int = 1
    statuses: tuple[int, ...] = (502, 503, 504)
    budget_percent: int = 20
    budget_minimum: int = 3
    backoff: float = 0.025
    backoff_limit: float = 0.25


@dataclass(frozen=True, slots=True)
class StickinessSpec:
    """Requests of one client go to one target. `cookie` is ours for lb_cookie, the application's for app_cookie."""

    kind: Literal["lb_cookie", "app_cookie", "source_ip"]
    duration: float = DAY  # ALB's default; of no meaning for source_ip
    cookie: str = "AWSALB"


def is_unix(address: str) -> bool:
    """A path stands where an address could."""
    return address.startswith("/")


def endpoint_key(address: str, port: int) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80`, `unix:/run/app.sock`."""
    if is_unix(address):
        return f"unix:{address}"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """A chain and its key as PEM, already read and found to belong together."""

    name: str
    chain_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TargetTlsSpec:
    """How a target proves who it is: by a certificate for `server_name`, or else for its address."""

    verify: bool = True  # ALB and HAProxy's `ssl` alone never ask; Envoy and nginx do when told to
    ca_pem: bytes | None = field(default=None, repr=False)  # None: the system's certificate authorities
    server_name: str | None = None  # for SNI, and for the certificate to be valid for
    certificate: CertificateSpec | None = None  # shown to targets that ask for one


@dataclass(frozen=True, slots=True)
class HealthCheckSpec:
    """How to find out whether a target works. `port` None is the target's own port."""

    protocol: CheckProtocol = "HTTP"
    path: str = "/"
    port: int | None = None
    interval: float = 30.0  # ALB's default; HAProxy 2 s, Traefik 30 s
    timeout: float = 5.0
    healthy_threshold: int = 5
    unhealthy_threshold: int = 2
    matcher: tuple[tuple[int, int], ...] = ((200, 399),)
    tls: TargetTlsSpec | None = None  # HTTPS: None asks for no proof, as on ALB
    proxy_protocol: ProxyProtocol | None = None  # its targets expect a header, of checks too


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target on a unix socket has the socket's path as its `ip`, and port 0."""

    ip: str
    port: int
    weight: int = 1  # 0-999; 0 is standby: used only when no target with a weight is healthy
    zone: str | None = None

    @property
    def key(self) -> str:
        """`10.0.1.10:8080` or `[2001:db8::1]:8080`: the target's name in logs, metrics and diffs."""
        return endpoint_key(self.ip, self.port)

    @property
    def is_unix(self) -> bool:
        return is_unix(self.ip)


@dataclass(frozen=True, slots=True)
class NamedTargetSpec:
    """A target by DNS name: one target for each address that the name resolves to, for as long as it does."""

    host: str  # in lower case, without the final dot
    port: int
    weight: int = 1  # of each address
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class OutlierSpec:
    """When a target is left out for the requests that it failed, whatever its health check says. Envoy's defaults."""

    consecutive_failures: int = 5  # answers of 5xx, failed connections, broken answers
    ejection_time: float = 30.0  # times how often it was ejected lately
    max_ejection_time: float = 300.0
    max_ejection_percentage: int = 10  # of the targets at a time, but one where there are three or more


@dataclass(frozen=True, slots=True)
class TargetGroupSpec:
    name: str
    protocol: TargetProtocol = "HTTP"
    algorithm: Algorithm = "round_robin"
    health_check: HealthCheckSpec | None = None  # None: every target counts as healthy
    targets: tuple[TargetSpec, ...] = ()
    deregistration_delay: float = 300.0  # ALB's default
    protocol_version: ProtocolVersion = "HTTP1"  # GRPC is HTTP2 under the name that AWS gives it
    hash_key: str = "source"  # for consistent_hash: source, path, header:NAME or cookie:NAME
    slow_start: float = 0.0  # seconds to full weight; 0 is off, ALB's default
    zone: str | None = None  # the load balancer's own
    cross_zone: bool = True  # False: only targets of `zone`, and those of none
    zone_preference: bool = False  # targets of `zone` first
    minimum_healthy_percentage: int = 0  # below, all targets are used; ALB's default (Envoy's 50)
    fail_open: bool = True  # with nothing healthy all targets are used, as ALB does
    outlier_detection: OutlierSpec | None = None
    proxy_protocol: ProxyProtocol | None = None  # say to targets who the client is, before anything else
    tls: TargetTlsSpec = TargetTlsSpec()  # for HTTPS and TLS
    stickiness: StickinessSpec | None = None
    retries: RetrySpec = RetrySpec()
    limits: GroupLimits = GroupLimits()
    named_targets: tuple[NamedTargetSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightedGroup:
    target_group: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Forward:
    """Send to a target group; with several, one is drawn per request by weight (0-999)."""

    groups: tuple[WeightedGroup, ...]
    stickiness: float = 0.0  # seconds that a client stays with the group it drew; 0: it draws each time


@dataclass(frozen=True, slots=True)
class Redirect:
    """ALB's redirect: each part may hold #{protocol} #{host} #{port} #{path} #{query}."""

    status: Literal[301, 302] = 302
    protocol: str = "#{protocol}"
    host: str = "#{host}"
    port: str = "#{port}"
    path: str = "/#{path}"
    query: str = "#{query}"


@dataclass(frozen=True, slots=True)
class FixedResponse:
    status: int
    content_type: str = "text/plain"
    body: str = ""


Action = Forward | Redirect | FixedResponse


Parameters = tuple[tuple[str, tuple[str, ...]], ...]  # names to values: every name must be there with one of its values


@dataclass(frozen=True, slots=True)
class Conditions:
    """All kinds that are set must hold; inside a kind any value suffices. `*` and `?` are wildcards.

    Host, header and query compare without case, path and method with it (ALB's rules). `query` are alternatives of
    which one must hold. `source_ip` are CIDRs; the source is the connection's, never what a header says.
    """

    path: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    header: tuple[tuple[str, tuple[str, ...]], ...] = ()
    query: tuple[Parameters, ...] = ()
    source_ip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What `regex` first finds is replaced once; `$1` to `$9` are its groups. Nothing found: nothing changes."""

    regex: str
    replace: str


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """In this order: `remove` by name, `set` in place of all of that name, `add` beside what is there."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


UNCHANGED = HeaderChanges()


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """A filter by its name. `config` is JSON: it is compared, and sent to workers, before anybody makes sense of it."""

    name: str
    config: str = field(default="{}", repr=False)  # there may be secrets in it


@dataclass(frozen=True, slots=True)
class RuleSpec:
    priority: int  # 1-50000, smaller first
    conditions: Conditions
    action: Action
    url_rewrite: Rewrite | None = None  # of path and query
    host_rewrite: Rewrite | None = None
    request_headers: HeaderChanges = UNCHANGED  # after the listener's
    response_headers: HeaderChanges = UNCHANGED
    body_limit: int | None = None  # None: the listener's
    request_timeout: float | None = None
    filters: tuple[FilterSpec, ...] = ()  # after the listener's


@dataclass(frozen=True, slots=True)
class ClientCertificatesSpec:
    """What a listener asks of its clients. `passthrough` verifies nothing, so it needs no authorities."""

    mode: ClientCertificateMode
    authorities_pem: bytes = field(default=b"", repr=False)
    revocations_pem: bytes = field(default=b"", repr=False)  # their lists; b"": nobody is asked whether one is revoked


@dataclass(frozen=True, slots=True)
class Peers:
    """Who a firewall rule speaks of: networks by CIDR, or the members of a security group.

    `cidrs` are what decides; `label` is what the user wrote and what a verdict repeats.
    """

    label: str
    cidrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecurityRuleSpec:
    protocol: IpProtocol
    ports: tuple[int, int]
    peers: Peers
    description: str = ""


@dataclass(frozen=True, slots=True)
class SecurityGroupSpec:
    name: str
    ingress: tuple[SecurityRuleSpec, ...] = ()
    egress: tuple[SecurityRuleSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class AclRuleSpec:
    number: int  # 1-32766, smallest first
    protocol: IpProtocol
    ports: tuple[int, int]
    peers: Peers
    allow: bool


@dataclass(frozen=True, slots=True)
class NetworkAclSpec:
    name: str
    inbound: tuple[AclRuleSpec, ...] = ()
    outbound: tuple[AclRuleSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacementSpec:
    """One subnet that a load balancer stands in, and the ACL at that subnet's border."""

    subnet: str
    cidr: str
    acl: NetworkAclSpec | None


@dataclass(frozen=True, slots=True)
class FirewallSpec:
    """`groups` None: no security group was named, everyone is admitted. No placements: no ACL.

    A connection is judged by the placement whose CIDR holds our own address on it, else by the first one.
    Traffic that stays inside that subnet does not cross its border, so the ACL has no say (as on AWS).
    """

    groups: tuple[SecurityGroupSpec, ...] | None = None
    placements: tuple[PlacementSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class TrustedProxiesSpec:
    """Who sends a PROXY protocol header, and must. `required`: nobody else may connect.

    Peers on a unix socket have no address; whom its permissions let in is trusted.
    """

    cidrs: tuple[str, ...] = ()
    required: bool = True


@dataclass(frozen=True, slots=True)
class TracingSpec:
    """What requests are called on their way to targets and in the log.

    ALB's field by default: `Root=1-...`, or `Self=1-...` before the Root that a client brought. An X-Request-Id that a
    client brought is kept. `traceparent` is passed on as it came, or begun where there is none.
    """

    request_id: Literal["X-Amzn-Trace-Id", "X-Request-Id"] | None = "X-Amzn-Trace-Id"
    traceparent: Literal["pass", "begin"] = "pass"


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """A listener on a unix socket has the socket's path as its `address`, and port 0."""

    load_balancer: str
    address: str
    port: int
    protocol: ListenerProtocol
    default_action: Action
    rules: tuple[RuleSpec, ...] = ()
    ssl_policy: str = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    certificates: tuple[CertificateSpec, ...] = ()  # the first is the default, the others are chosen by SNI
    client_certificates: ClientCertificatesSpec | None = None  # None: clients are not asked for any
    http2: bool = True  # offered by ALPN under HTTPS, taken by prior knowledge under HTTP
    firewall: FirewallSpec = FirewallSpec()
    proxy_protocol: TrustedProxiesSpec | None = None  # None: nobody's word about who the client is, is taken
    request_headers: HeaderChanges = UNCHANGED
    response_headers: HeaderChanges = UNCHANGED
    limits: ListenerLimits = ListenerLimits()
    tracing: TracingSpec | None = None  # None: requests are not named
    filters: tuple[FilterSpec, ...] = ()

    @property
    def key(self) -> str:
        """`127.0.0.1:8080`, or `127.0.0.1:53/udp`: the listener's name in logs, metrics, diffs; unique in a process."""
        key = endpoint_key(self.address, self.port)
        return f"{key}/udp" if self.protocol == "UDP" else key

    @property
    def is_unix(self) -> bool:
        return is_unix(self.address)


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """All that the proxy plane does. A target group's firewall is its load balancer's."""

    listeners: tuple[ListenerSpec, ...] = ()
    target_groups: tuple[TargetGroupSpec, ...] = ()
    group_firewalls: tuple[tuple[str, FirewallSpec], ...] = ()  # target group name -> who may be connected to
    close_spread: float = 0.0  # seconds over which idle connections are closed in the end; at most the drain
    sticky_key: bytes = field(default=b"", repr=False)  # signs the cookies of stickiness; b"": one for this process
    limits: ProcessLimits = ProcessLimits()

    def used_filters(self) -> list[FilterSpec]:
        """In the order in which they are named, as often as they are."""
        named: list[FilterSpec] = []
        for listener in self.listeners:
            named += listener.filters
            for rule in listener.rules:
                named += rule.filters
        return named

    def used_groups(self) -> set[str]:
        """The target groups that an action of some listener forwards to."""
        actions = [
            action
            for listener in self.listeners
            for action in (listener.default_action, *(rule.action for rule in listener.rules))
        ]
        return {group.target_group for action in actions if isinstance(action, Forward) for group in action.groups}
