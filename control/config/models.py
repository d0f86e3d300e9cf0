"""The configuration file as types: every key, its default, and one line of what it is for.

This is the shape alone. What holds between two places of the file is the business of the `check_*` modules; the
docstrings below each key become the descriptions of the JSON Schema, so they are written for the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from .model_base import Described, Model
from .models_dns import (
    LONGEST_TTL,
    AllUnhealthy,
    DnsNetwork,
    DnsType,
    RegionLatency,
    Registration,
    RoutingPolicy,
    StaticRecord,
)
from .models_dns_serving import DnsEndpoints, DnsServing
from .models_filters import Filter
from .models_limits import (
    GroupLimits,
    GroupTimeouts,
    ListenerLimits,
    ListenerTimeouts,
    ProcessLimits,
    Retries,
    RuleLimits,
    RuleTimeouts,
    Stickiness,
    StickyFor,
)
from .models_rules import Conditions, HeaderChanges, Transforms
from .models_security import SecuritySection
from .scalars import (
    Address,
    CheckPort,
    Cidr,
    Endpoint,
    Flag,
    HashKeyText,
    HostName,
    Label,
    Name,
    Place,
    Port,
    RedirectPort,
    SelfSignedNames,
    StatusRanges,
    Text,
    UrlPath,
    WorkerCount,
    duration,
    endpoint,
    one_or_more,
    whole,
)

ADMIN_PORT: Final = 9900
HOUR: Final = 3600.0

Ttl = Annotated[float, *duration(0, LONGEST_TTL, whole_seconds=True)]
TargetWeight = Annotated[int, *whole(0, 999)]  # as ALB's target groups
DnsWeight = Annotated[int, *whole(0, 255)]  # as Route 53's records
Threshold = Annotated[int, *whole(1, 100)]  # AWS allows 2 to 10; 1 is what a test wants


# Networks


class VpcDns(Described):
    domain: HostName | None = None
    """Namespaces in this network also answer below this name: `services.app.local`."""
    resolvers: DnsEndpoints = ()
    """The resolvers that hosts of this network use. For Penstock's own forwarding see `dns.resolvers`."""
    enable_private_dns: Flag = True
    """Whether private names are answered inside this network."""


class Vpc(Described):
    name: Name
    """What `vpc:` elsewhere refers to."""
    cidr: Cidr
    """The addresses of the network; every subnet lies inside."""
    region: Text | None = None
    """Where the network is."""
    zones: tuple[Text, ...] = ()
    """The availability zones. Where given, a subnet or target can be in no other."""
    dns: VpcDns = VpcDns()
    """Names of this network."""


class Subnet(Described):
    name: Name
    """What load balancers and network ACLs refer to."""
    cidr: Cidr
    """A part of the VPC's addresses that no other subnet has."""
    vpc: Name | None = None
    """The VPC it belongs to; there is one."""
    zone: Text | None = None
    """The availability zone it lies in."""
    public: Flag = False
    """Whether it has a route to the internet."""
    route_table: Name | None = None
    """The route table of its own."""
    nat_gateway: Name | None = None
    """The NAT gateway it leaves through."""


class NetworkSection(Described):
    vpc: Vpc
    """The network itself."""
    subnets: tuple[Subnet, ...] = ()
    """Its parts."""


# Load balancers


class HealthCheck(Described):
    protocol: Literal["HTTP", "HTTPS", "TCP", "GRPC", "GRPCS"] | None = None
    """How to ask. Left out: as targets are spoken to; TCP for TCP, TLS and UDP groups without a path, GRPC for GRPC."""
    path: UrlPath | None = None
    """What HTTP and HTTPS ask for, / if left out; the method that GRPC calls, /grpc.health.v1.Health/Check."""
    port: CheckPort = None
    """Where to ask. Left out, or `traffic-port`: the target's own port."""
    interval: Annotated[float, *duration(0.1, HOUR)] = 30.0
    """From one probe to the next; ALB's default."""
    timeout: Annotated[float, *duration(0.01, HOUR)] | None = None
    """How long an answer may take. Left out: 5s, or the interval if that is shorter."""
    healthy_threshold: Threshold = 5
    """Passes in a row that make an unhealthy target healthy; ALB's default."""
    unhealthy_threshold: Threshold = 2
    """Failures in a row that make it unhealthy; ALB's default."""
    matcher: StatusRanges | None = None
    """Statuses that pass. Left out: 200-399; for GRPC, whose statuses are 0 to 99, it is 0."""


class Target(Described):
    ip: Place | None = None
    """Where it is; unix:/run/app.sock is a socket on this machine, without a port. Exactly one of `ip` and `host`."""
    host: HostName | None = None
    """Its DNS name: each address is a target, resolved again when the TTL is over; those that leave drain."""
    port: Port | None = None
    """Left out: the group's port."""
    weight: TargetWeight = 1
    """Its share, 0 to 999; 0 is used only when no target with a weight is healthy."""
    zone: Text | None = None
    """The availability zone it is in."""


class OutlierDetection(Described):
    consecutive_failures: Threshold = 5
    """Answers of 5xx, failed connections and broken answers in a row that eject a target; Envoy's default."""
    ejection_time: Annotated[float, *duration(1, HOUR)] = 30.0
    """How long it is left out, times how often it was lately; Envoy's default."""
    max_ejection_time: Annotated[float, *duration(1, HOUR)] = 300.0
    """The longest time; Envoy's default."""
    max_ejection_percentage: Annotated[int, *whole(0, 100)] = 10
    """How many targets may be out at a time: one at least, where there are three or more. Envoy's default."""


class TargetTls(Described):
    verify: Flag = True
    """Whether a target proves who it is. false encrypts to whoever answers, as ALB does."""
    ca_file: Text | None = None
    """PEM: who may sign their certificates. Left out: the system's certificate authorities."""
    server_name: HostName | None = None
    """The name their certificates are for, sent as SNI. Left out: a target's host, or its address."""
    client_certificate: Name | None = None
    """The certificate that targets are shown when they ask for one."""


class TargetGroup(Described):
    name: Name
    """What rules refer to; unique in the file."""
    protocol: Literal["HTTP", "HTTPS", "TCP", "TLS", "UDP"] | None = None
    """What targets speak. Left out: HTTP in an application load balancer, TCP in a network one."""
    protocol_version: Literal["HTTP1", "HTTP2", "GRPC"] = "HTTP1"
    """The version of HTTP that targets speak; GRPC is HTTP2 by the name AWS gives it."""
    port: Port | None = None
    """The port of targets that name none."""
    target_type: Literal["ip", "instance"] = "ip"
    """Read for AWS's sake: a target is reached by its `ip` either way."""
    vpc: Name | None = None
    """The network its targets are in."""
    algorithm: Literal[
        "round_robin",
        "least_outstanding_requests",
        "weighted_random",
        "power_of_two_choices",
        "ewma",
        "consistent_hash",
    ] = "round_robin"
    """How a target is chosen; ALB's default."""
    hash_key: HashKeyText = "source"
    """What consistent_hash goes by: source, path, header:NAME or cookie:NAME."""
    slow_start: Annotated[float, *duration(0, HOUR)] = 0.0
    """How long a target that became healthy takes to its full share. 0 is off, ALB's default."""
    cross_zone: Flag = True
    """Whether targets of other zones than the load balancer's are used; ALB's default."""
    zone_preference: Flag = False
    """Targets of the load balancer's zone first, and as they fail, more and more of the others."""
    minimum_healthy_percentage: Annotated[int, *whole(0, 100)] = 0
    """With fewer healthy than this, requests go to all targets. 0: only when none is, ALB's default."""
    fail_open: Flag = True
    """Whether requests go to all targets when too few are healthy, as ALB does; else they are answered with 503."""
    outlier_detection: OutlierDetection | None = None
    """Leave targets out for a while that fail requests though their checks pass. Left out: off."""
    health_check: HealthCheck | None = None
    """How to find out which targets work. Left out: all count as healthy."""
    deregistration_delay: Annotated[float, *duration(0, HOUR)] = 300.0
    """How long a removed target may finish what it has begun; ALB's default. At least the TTL of its DNS services."""
    proxy_protocol: Literal["v1", "v2"] | None = None
    """Tell targets who the client is by a PROXY protocol header. They must expect it. Left out: none."""
    tls: TargetTls | None = None
    """For HTTPS and TLS. Left out: targets are verified by the system's certificate authorities."""
    stickiness: Stickiness | None = None
    """How a client stays with its target. Left out: it does not."""
    retries: Retries = Retries()
    """When a request is sent to another target (HTTP and HTTPS)."""
    timeouts: GroupTimeouts = GroupTimeouts()
    """How long a target is waited for."""
    limits: GroupLimits = GroupLimits()
    """How much a target is given at once."""
    targets: tuple[Target, ...] = ()
    """Who does the work. None: 503 for HTTP, a closed connection for TCP."""


class WeightedTargetGroup(Model):
    target_group: Name
    """The name of a target group of this load balancer."""
    weight: TargetWeight = 1
    """Its share of the requests, 0 to 999."""


def _forward(value: object) -> object:
    """A bare name, or one mapping, stands for a list of one."""
    if isinstance(value, str):
        return [{"target_group": value}]
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise ValueError("must be the name of a target group, or a list of {target_group: NAME, weight: 1}")
    if not value:
        raise ValueError("must not be empty: name a target group")
    return [{"target_group": item} if isinstance(item, str) else item for item in value]


class Redirect(Model):
    """Each part may hold #{protocol}, #{host}, #{port}, #{path} (without its first slash) and #{query}."""

    status: Literal[301, 302] = 302
    """301 is for good, 302 for now."""
    protocol: Literal["HTTP", "HTTPS", "#{protocol}"] = "#{protocol}"
    """Where to send the client; what is left out stays as it was."""
    host: Text = "#{host}"
    """The new host."""
    port: RedirectPort = "#{port}"
    """The new port."""
    path: Text = "/#{path}"
    """The new path; begins with /."""
    query: Text = "#{query}"
    """The new query, without the question mark."""


class FixedResponse(Model):
    status: Annotated[int, *whole(200, 599)]
    """Any final status."""
    content_type: Text = "text/plain"
    """The Content-Type of the body."""
    body: Text = ""
    """What is sent, as UTF-8."""


class Action(Model):
    """Exactly one of the three."""

    forward: Annotated[tuple[WeightedTargetGroup, ...], BeforeValidator(_forward)] | None = None
    """A target group by name, or several with weights."""
    redirect: Redirect | None = None
    """Send the client elsewhere (HTTP and HTTPS)."""
    fixed_response: FixedResponse | None = None
    """Answer without a target (HTTP and HTTPS)."""
    stickiness: StickyFor | None = None
    """With several target groups: how long a client stays with the one it drew (HTTP and HTTPS). Left out: not."""

    @model_validator(mode="before")
    @classmethod
    def _one_of_three(cls, value: object) -> object:
        if isinstance(value, str):
            kind, _, group = value.partition(" ")
            raise ValueError(f"must say what to do: write {{forward: {group if kind == 'forward' else value}}}")
        kinds = ("forward", "redirect", "fixed_response")
        # A misspelt kind is an unknown key, and that is said better elsewhere.
        if (
            isinstance(value, dict)
            and sum(kind in value for kind in kinds) != 1
            and value.keys() <= {*kinds, "stickiness"}
        ):
            raise ValueError("must be exactly one of forward, redirect, fixed_response")
        return value


class Rule(Described):
    priority: Annotated[int, *whole(1, 50000)]
    """1 to 50000, smaller first; no two of a listener are the same."""
    conditions: Conditions
    """When the rule applies; at least one."""
    action: Action
    """What it does."""
    transforms: Transforms | None = None
    """What a forwarded request asks the target for instead."""
    request_headers: HeaderChanges | None = None
    """Changes to what targets get, after the listener's."""
    response_headers: HeaderChanges | None = None
    """Changes to what clients get, after the listener's."""
    timeouts: RuleTimeouts = RuleTimeouts()
    """In place of the listener's."""
    limits: RuleLimits = RuleLimits()
    """In place of the listener's."""
    filters: tuple[Filter, ...] = ()
    """Python classes that see its requests, after the listener's."""


class ProxyProtocol(Described):
    trusted: Annotated[tuple[Cidr, ...], *one_or_more("10.0.0.0/8")] = ()
    """Proxies whose word about who the client is, is taken. Each of their connections must begin with a header."""
    required: Flag = True
    """Whether only they may connect. false: whoever else connects is a client of its own, and sends no header."""


class ClientCertificates(Described):
    mode: Literal["off", "optional", "required", "passthrough"]
    """off asks for none; optional and required verify; passthrough leaves that to the targets."""
    ca_file: Text | None = None
    """PEM: whose signature is trusted. Needed to verify."""
    crl_file: Text | None = None
    """PEM: what those have revoked; no client gets in without a valid list of its issuer. Left out: nobody is."""


class Listener(Described):
    port: Port | None = None
    """Where to listen; a unix socket has none."""
    address: Place = "0.0.0.0"
    """The address to listen at; 0.0.0.0 is every IPv4 address of the machine, :: every IPv6 one; unix:/run/web.sock."""
    protocol: Literal["HTTP", "HTTPS", "TCP", "TLS", "UDP"]
    """HTTP and HTTPS for an application load balancer, TCP, TLS and UDP for a network one."""
    proxy_protocol: ProxyProtocol | None = None
    """Proxies before this one say who the client is (PROXY protocol v1 or v2). Left out: nobody is believed."""
    ssl_policy: Text = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    """Versions and ciphers, by AWS's names or TLS-1-2, TLS-1-3."""
    http2: bool = True
    """Whether clients may speak HTTP/2: chosen in the handshake under HTTPS, by prior knowledge under HTTP."""
    certificate: Name | None = None
    """The certificate for clients that name no server, or one that no certificate is for."""
    certificates: tuple[Name, ...] = ()
    """More certificates, chosen by the server name (SNI). Without `certificate` the first is the default."""
    client_certificates: ClientCertificates | None = None
    """Whether clients show certificates too (mutual TLS). Left out: they are not asked for any."""
    default_action: Action | None = None
    """What to do when no rule matches. Left out: forward to the load balancer's only target group."""
    rules: tuple[Rule, ...] = ()
    """HTTP and HTTPS only."""
    request_headers: HeaderChanges | None = None
    """Changes to what targets get, whatever the rule. HTTP and HTTPS only."""
    response_headers: HeaderChanges | None = None
    """Changes to what clients get from targets, redirects and fixed responses. HTTP and HTTPS only."""
    timeouts: ListenerTimeouts = ListenerTimeouts()
    """How long a client is waited for."""
    limits: ListenerLimits = ListenerLimits()
    """How much a client may ask."""
    filters: tuple[Filter, ...] = ()
    """Python classes that see every request, in this order. HTTP and HTTPS only."""

    def certificate_names(self) -> Iterator[str]:
        """In the order of use: the first is the default."""
        if self.certificate is not None:
            yield self.certificate
        yield from (name for name in self.certificates if name != self.certificate)


class Tracing(Described):
    request_id: Literal["X-Amzn-Trace-Id", "X-Request-Id", "none"] = "X-Amzn-Trace-Id"
    """The field that names each request to its target and in the log. ALB's, or the one that most proxies use; none."""
    traceparent: Literal["pass", "begin"] = "pass"
    """W3C Trace Context: passed on as it came, or begun for requests that bring none."""


class LoadBalancer(Described):
    name: Name
    """For logs and metrics."""
    type: Literal["application", "network"] = "application"
    """application reads HTTP, network relays bytes."""
    scheme: Literal["internet-facing", "internal"] = "internet-facing"
    """Who it is for; AWS's default."""
    vpc: Name | None = None
    """The network it stands in."""
    zone: Text | None = None
    """The availability zone it stands in. Left out: its subnets' zone, where they lie in one."""
    subnets: tuple[Name, ...] = ()
    """Where it stands; their network ACLs apply. None: no ACL."""
    security_groups: tuple[Name, ...] = ()
    """Who may connect, and to whom it may. None: everyone."""
    listeners: tuple[Listener, ...] = ()
    """Where clients connect."""
    target_groups: tuple[TargetGroup, ...] = ()
    """Who does the work."""
    tracing: Tracing = Tracing()
    """What requests are called (type application)."""


class Certificate(Described):
    name: Name
    """What listeners refer to."""
    cert_file: Text | None = None
    """PEM: the certificate, then those that signed it."""
    key_file: Text | None = None
    """PEM: its key, without a passphrase."""
    self_signed: SelfSignedNames | None = None
    """Instead of files: names and addresses to make a certificate for. It is kept in the state directory."""


# Service discovery and DNS


class DnsRecord(Described):
    type: DnsType
    """What is answered. HTTPS and SVCB, for services that speak it, name the instances and their ports."""
    ttl: Ttl | None = None
    """How long others may keep it. Left out: the namespace's."""
    alpn: tuple[Text, ...] = ()
    """For HTTPS and SVCB: what is spoken there, `h2` or `h3`, besides HTTP/1.1."""


class Instance(Described):
    id: Label | None = None
    """Its own name below the service, and the target of SRV. Left out: made of address and port, `10-0-1-10-8080`."""
    ip: Address
    """Where it is."""
    port: Port | None = None
    """For SRV, and for health checks that name none."""
    weight: DnsWeight = 1
    """Its share of the answers, 0 to 255; 0 is answered only when no weighted instance is healthy."""
    attributes: dict[str, Text] = Field(default_factory=dict)
    """Free pairs of text about it, answered as TXT at its own name."""
    failover: Literal["primary", "secondary"] = "primary"
    """For failover: secondary ones are answered when no primary one is healthy."""
    zone: Text | None = None
    """The availability zone it is in. Left out: its subnet's."""
    region: Text | None = None
    """The region it is in, for latency. Left out: the VPC's, where it is inside."""
    location: Text | None = None
    """For geolocation: whom it is for, a path such as `eu/de`. Left out: those for whom nobody else is."""


class Service(Described):
    name: Label
    """The first label of its name: `api` in `api.services`."""
    dns_records: tuple[DnsRecord, ...] = ()
    """Left out: A, AAAA or both by the instances' addresses, and SRV when all have ports."""
    routing_policy: RoutingPolicy | None = None
    """Left out: the namespace's."""
    all_unhealthy: AllUnhealthy = "fail_open"
    """When no instance is healthy: all are answered, none are, or those who were healthy last."""
    max_answers: Annotated[int, *whole(1, 100)] | None = None
    """Instances in one answer. Left out: 8 for multivalue, as in Route 53, else 100."""
    zone_affinity: Flag = False
    """Whether clients get the instances of their own zone, then region, while half of its weight is healthy."""
    health_check: HealthCheck | None = None
    """Which instances are answered. Left out: all."""
    instances: tuple[Instance, ...] = ()
    """Who is behind the name."""
    target_group: Name | None = None
    """Instead: instances and their health come from this target group."""


class Namespace(Described):
    name: HostName
    """The zone."""
    type: Literal["private", "public"] = "private"
    """private names belong to a network."""
    vpc: Name | None = None
    """The network; its domain makes the second zone, `services.app.local`. Left out: the only one there is."""
    routing_policy: RoutingPolicy = "multivalue"
    """multivalue: eight, each first in turn, Cloud Map's default; else all, the first by weight, of those it picks."""
    ttl: Ttl = 60.0
    """How long others may keep an answer; Cloud Map's usual value."""
    services: tuple[Service, ...] = ()
    """The names in it."""
    records: tuple[StaticRecord, ...] = ()
    """Other names in it, written down."""


class ServiceDiscoverySection(Described):
    namespaces: tuple[Namespace, ...] = ()
    """The zones that are answered here."""
    registration: Registration = Registration()
    """Instances that come and go over the admin address."""


class DnsSection(DnsServing):
    listen: DnsEndpoints
    """Where to answer, UDP and TCP."""
    resolvers: DnsEndpoints = ()
    """Who is asked for all that is not ours. None: such questions are refused."""
    recursion: Annotated[tuple[Cidr, ...], *one_or_more("10.0.0.0/8")] | None = None
    """Whose clients the resolvers are asked for. Left out: those with private and loopback addresses."""
    networks: tuple[DnsNetwork, ...] = ()
    """Where clients are, and which names they see, beyond what the network's subnets say."""
    latencies: tuple[RegionLatency, ...] = ()
    """How far regions are from each other, for the latency policy."""


# The process


class AdminSection(Described):
    listen: Annotated[Endpoint, *endpoint(ADMIN_PORT)] = ("127.0.0.1", ADMIN_PORT)
    """Status, metrics and health of the process. It asks for no password: keep it on loopback."""


class AccessLogSection(Described):
    file: Text
    """Beside this file unless absolute; `-` is standard output."""
    format: Literal["json", "alb"] = "json"
    """json: one object per line; alb: the fields of AWS's application load balancer."""


class StateSection(Described):
    directory: Text = ".penstock"
    """What Penstock makes for itself, such as self-signed certificates. Beside this file unless absolute."""


class ShutdownSection(Described):
    grace: Annotated[float, *duration(0, HOUR)] | None = None
    """How long to go on accepting after SIGTERM, while /readyz says 503. Left out: 15s if somebody asks /readyz."""
    drain: Annotated[float, *duration(0, HOUR)] = 30.0
    """How long requests may finish then; what Kubernetes grants by default, so grant more where there is a grace."""
    close_spread: Annotated[float, *duration(0, HOUR)] = 0.0
    """Over how much of the drain idle connections are closed, so that not all come back at once elsewhere. 0: none."""


class ResolutionSection(Described):
    resolvers: DnsEndpoints = ()
    """Who is asked for the names of targets. Left out: those of /etc/resolv.conf."""


class Configuration(Described):
    network: NetworkSection | None = None
    """The network that load balancers stand in."""
    load_balancer: LoadBalancer | None = None
    """One load balancer."""
    load_balancers: tuple[LoadBalancer, ...] = ()
    """Several."""
    certificates: tuple[Certificate, ...] | None = None
    """What HTTPS and TLS listeners show."""
    security: SecuritySection = SecuritySection()
    """Security groups and network ACLs."""
    service_discovery: ServiceDiscoverySection = ServiceDiscoverySection()
    """The names that are answered."""
    dns: DnsSection | None = None
    """The DNS server. Left out: none."""
    admin: AdminSection | None = None
    """The admin API. Left out: none."""
    access_log: AccessLogSection | None = None
    """One line per request or connection. Left out: none."""
    resolution: ResolutionSection = ResolutionSection()
    """How targets by DNS name are found."""
    state: StateSection = StateSection()
    """What is kept on disk."""
    shutdown: ShutdownSection = ShutdownSection()
    """How the process ends."""
    limits: ProcessLimits = ProcessLimits()
    """What the process takes of all clients together."""
    workers: WorkerCount = 1
    """Processes that serve, at most 512; auto is one per processor. 1 is this process itself."""

    def every_load_balancer(self) -> Iterator[LoadBalancer]:
        if self.load_balancer:
            yield self.load_balancer
        yield from self.load_balancers
