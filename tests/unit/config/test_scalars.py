"""Durations, ranges, addresses and names: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from penstock.control.config import models, models_dns_serving, scalars

SECONDS = models.HealthCheck.model_fields["interval"]
CASES: list[tuple[Any, object, object]] = [
    (scalars.PortRange, 443, (443, 443)),
    (scalars.PortRange, "443", (443, 443)),
    (scalars.PortRange, "1024-65535", (1024, 65535)),
    (scalars.PortRange, "all", (0, 65535)),
    (scalars.PortRange, 0, (0, 0)),
    (scalars.Port, 65535, 65535),
    (scalars.Flag, True, True),
    (scalars.Flag, "no", False),
    (scalars.Flag, "On", True),
    (scalars.StatusRanges, 200, ((200, 200),)),
    (scalars.StatusRanges, "200-399", ((200, 399),)),
    (scalars.StatusRanges, "200, 204,301-302", ((200, 200), (204, 204), (301, 302))),
    (scalars.CheckPort, "traffic-port", None),
    (scalars.CheckPort, 8080, 8080),
    (scalars.Address, "2001:DB8::0:1", "2001:db8::1"),
    (scalars.HostName, "App.Local.", "app.local"),
    (scalars.RedirectPort, 443, "443"),
    (scalars.RedirectPort, "#{port}", "#{port}"),
    (scalars.PathPatterns, "/api/*", ("/api/*",)),
    (scalars.PathPatterns, ["/a", "*.png"], ("/a", "*.png")),
    (models_dns_serving.DnsEndpoint, "127.0.0.1:8053", ("127.0.0.1", 8053)),
    (models_dns_serving.DnsEndpoint, "127.0.0.1", ("127.0.0.1", 53)),
    (models_dns_serving.DnsEndpoint, "[::1]:8053", ("::1", 8053)),
    (models_dns_serving.DnsEndpoint, "[::1]", ("::1", 53)),
    (models_dns_serving.DnsEndpoint, "::1", ("::1", 53)),
    (models.DnsEndpoints, "127.0.0.1:8053", (("127.0.0.1", 8053),)),
    (models.Ttl, "1h", 3600.0),
    (scalars.SelfSignedNames, ["*.Example.org", "::1"], ("*.example.org", "::1")),
]


@pytest.mark.parametrize(("kind", "written", "value"), CASES, ids=lambda part: repr(part)[:40])
def test_is_read(kind: Any, written: object, value: object) -> None:
    assert TypeAdapter(kind).validate_python(written) == value


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("5m", 300),
        ("1h", 3600),
        ("1d", 86400),
        ("1.5s", 1.5),
        (5, 5),
        (0.25, 0.25),
        ("7", 7),
    ],
)
def test_a_duration_is_read(written: object, seconds: float) -> None:
    kind = models.Annotated[float, *scalars.duration(0, 86400)]
    assert TypeAdapter(kind).validate_python(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "s", "30", "1h30m", "30 s", "-1s", "1e3s", "٣s", "30S", None, True, [], float("nan")]
)
def test_a_duration_is_refused(written: object) -> None:
    kind = models.Annotated[float, *scalars.duration(0, 10)]
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(written)


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (scalars.PortRange, "1024-"),
        (scalars.PortRange, "-1"),
        (scalars.PortRange, "1-2-3"),
        (scalars.PortRange, "0-65536"),
        (scalars.PortRange, "٣"),
        (scalars.PortRange, True),
        (scalars.PortRange, "ALL"),
        (scalars.Port, 0),
        (scalars.Port, 65536),
        (scalars.Port, 80.0),
        (scalars.Port, "80"),
        (scalars.Port, True),
        (scalars.Flag, 1),
        (scalars.Flag, "maybe"),
        (scalars.StatusRanges, "399-200"),
        (scalars.StatusRanges, "200,"),
        (scalars.StatusRanges, "600"),
        (scalars.StatusRanges, ""),
        (scalars.StatusRanges, 200.0),
        (scalars.Address, "010.0.0.1"),
        (scalars.Address, "fe80::1%eth0/64"),
        (scalars.Cidr, "10.0.0.0/255.255.0.1"),
        (scalars.Peer, "10.0.0.1/8"),
        (scalars.Peer, "10.0.0"),
        (scalars.Name, ""),
        (scalars.Name, "a/../b"),
        (scalars.Name, "a" * 129),
        (scalars.Name, "a\n"),
        (scalars.HostName, "a..b"),
        (scalars.HostName, "-a"),
        (scalars.HostName, "a" * 64),
        (scalars.HostName, ".".join(["a" * 60] * 5)),
        (scalars.HostName, ""),
        (scalars.UrlPath, "health"),
        (scalars.UrlPath, "/he alth"),
        (scalars.UrlPath, "/a\r\nX: y"),
        (scalars.PathPatterns, []),
        (scalars.HeaderPatterns, "a\r\nb"),
        (scalars.Methods, "get"),
        (scalars.Token, "X:Y"),
        (models_dns_serving.DnsEndpoint, "localhost:53"),
        (models_dns_serving.DnsEndpoint, "127.0.0.1:"),
        (models_dns_serving.DnsEndpoint, "127.0.0.1:65536"),
        (models_dns_serving.DnsEndpoint, "127.0.0.1:0"),
        (models_dns_serving.DnsEndpoint, "[::1"),
        (models_dns_serving.DnsEndpoint, "[::1]:"),
        (models_dns_serving.DnsEndpoint, "[::1]53"),
        (models_dns_serving.DnsEndpoint, ":53"),
        (models_dns_serving.DnsEndpoint, 53),
        (models.Ttl, 1.5),
        (models.Ttl, 2**31),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_is_refused(kind: Any, written: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(written)
