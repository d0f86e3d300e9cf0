"""How the DNS server is asked, by whom, and whom it asks itself.

The defaults are those of the DNS plane's own specs. The docstrings below each key become the descriptions of the JSON
Schema.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from .model_base import Described, Model
from .scalars import Cidr, Endpoint, Flag, HostName, Name, Text, UrlPath, duration, endpoint, one_or_more, size, whole

MIB: Final = 1 << 20
DAY: Final = 86400.0
WEEK: Final = 7 * DAY
DNS_PORT: Final = 53
TLS_PORT: Final = 853  # RFC 7858 section 3.1
HTTPS_PORT: Final = 443

DnsEndpoint = Annotated[Endpoint, *endpoint(DNS_PORT)]
DnsEndpoints = Annotated[tuple[DnsEndpoint, ...], *one_or_more("127.0.0.1:53")]
CacheTtl = Annotated[float, *duration(0, WEEK, whole_seconds=True)]
Cidrs = Annotated[tuple[Cidr, ...], *one_or_more("10.0.0.0/8")]


class Forward(Described):
    zone: HostName
    """All names at and below this one; the longest zone that has a name decides."""
    resolvers: DnsEndpoints
    """Who is asked for them."""


class DnsCache(Model):
    memory: Annotated[int, *size(0, 1024 * MIB)] = 8 * MIB
    """For the answers of resolvers, some 20,000 with the default; the least used go first."""
    min_ttl: CacheTtl = 0.0
    """Keep answers at least this long, whatever their owner says."""
    max_ttl: CacheTtl = DAY
    """Keep them no longer than this; Unbound's and dnsmasq's default."""
    max_negative_ttl: CacheTtl = 3600.0
    """The same for names that are not there; Unbound's default."""
    stale: CacheTtl = DAY
    """How long an answer past its end may serve while no resolver answers (RFC 8767). 0 is off."""
    prefetch: Flag = True
    """Fetch an answer anew when it is asked for in the last tenth of its time, and was before."""


class DnsOverTls(Described):
    listen: Annotated[tuple[Annotated[Endpoint, *endpoint(TLS_PORT)], ...], *one_or_more("127.0.0.1:853")]
    """Where to answer; port 853 if none is written."""
    certificate: Name
    """What clients are shown, by its name in certificates."""
    ssl_policy: Text = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    """Versions and ciphers, by AWS's names or TLS-1-2, TLS-1-3."""


class DnsOverHttps(Described):
    listen: Annotated[tuple[Annotated[Endpoint, *endpoint(HTTPS_PORT)], ...], *one_or_more("127.0.0.1:443")]
    """Where to answer; port 443 if none is written. A load balancer cannot listen there too."""
    certificate: Name
    """What clients are shown, by its name in certificates."""
    ssl_policy: Text = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
    """Versions and ciphers, by AWS's names or TLS-1-2, TLS-1-3."""
    path: UrlPath = "/dns-query"
    """The path of the URL; RFC 8484's."""


class ResponseRateLimit(Described):
    responses_per_second: Annotated[int, *whole(1, 1_000_000)]
    """Equal answers over UDP to one network of clients. Names that are not there are all equal."""
    slip: Annotated[int, *whole(0, 10)] = 2
    """Of those that are too many each so-manyth is sent, empty, so that a real client comes back over TCP. 0: none."""
    ipv4_prefix: Annotated[int, *whole(1, 32)] = 24
    """What one network is; BIND's default."""
    ipv6_prefix: Annotated[int, *whole(1, 128)] = 56
    """What one network is; BIND's default."""


class DnsQueryLog(Described):
    file: Text
    """Beside this file unless absolute. One JSON object per query; where the disk is too slow, lines are left out."""
    sample: Annotated[int, *whole(1, 1_000_000)] = 1
    """Each so-manyth query."""


class DnsServing(Described):
    """What `dns:` holds besides where it listens and whom it asks."""

    tls: DnsOverTls | None = None
    """DNS over TLS. Left out: none."""
    https: DnsOverHttps | None = None
    """DNS over HTTPS. Left out: none."""
    forward: tuple[Forward, ...] = ()
    """Zones that have resolvers of their own."""
    private_reverse_zones: Literal["local", "forward"] = "local"
    """Names of private addresses: answered here as not there (RFC 6303), or asked of resolvers like any other."""
    mixed_case: Flag = True
    """Ask resolvers in random case (0x20), which a forger has to guess too."""
    cache: DnsCache = DnsCache()
    """How long answers of resolvers are kept."""
    allow: Cidrs = ()
    """Clients that may ask; all others are refused. Left out: everybody."""
    transfer_to: Cidrs = ()
    """Secondaries: they may have whole zones (AXFR over TCP). Left out: nobody."""
    cookies: Flag = False
    """DNS cookies (RFC 7873): who shows one is who he says, and is not limited."""
    response_rate_limit: ResponseRateLimit | None = None
    """Against the use of this server to flood others. Left out: none."""
    query_log: DnsQueryLog | None = None
    """What is asked, by whom. Left out: none."""
    top_names: Annotated[int, *whole(0, 10_000)] = 0
    """Keep count of this many names, the most asked for are in /status. 0 is off."""
