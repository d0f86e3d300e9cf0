"""Prometheus metrics, made from the live objects at the moment of the scrape.

The data path only adds to plain integers (proxy/counters.py); this collector walks them, so a metric costs nothing
until somebody asks. Label values come from the configuration alone, never from a Host or a path: a stranger must not
be able to make series (caddy #7304). What leaves the configuration leaves the metrics, which Prometheus expects.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ...proxy.counters import DURATION_BUCKETS
from ..version import VERSION

if TYPE_CHECKING:
    from ...dns.counters import DnsCounters
    from ...proxy.names import Name
    from ...proxy.server import Proxy
    from ...proxy.targets import Target
    from ..runtime import Runtime
    from ..workers import Workers

# responses[0] counts exchanges that ended before there was a status: the client left, or the connection failed.
CODE_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")

BUCKET_LABELS = (*map(floatToGoString, DURATION_BUCKETS), "+Inf")


def registry_of(runtime: Runtime) -> CollectorRegistry:
    """A registry of our own: two runtimes in one process must not meet in prometheus-client's global one."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PenstockCollector(runtime))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Collected(Collector):
    """What a registry holds at this moment, to be written out elsewhere: on a thread, while the counters go on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._metrics = list(registry.collect())

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class PenstockCollector(Collector):
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def describe(self) -> Iterable[Metric]:
        """Nothing to reserve: the registry is ours, and asking for names would walk everything at start."""
        return ()

    def collect(self) -> Iterator[Metric]:
        runtime = self._runtime
        yield from _process(runtime)
        yield from _listeners(runtime.proxy)
        yield from _targets(runtime.proxy)
        yield from _names(runtime.resolution.names, time.monotonic())
        yield from _dns(runtime.dns.counters)
        if runtime.workers is not None:
            yield from _workers(runtime.workers)


def _process(runtime: Runtime) -> Iterator[Metric]:
    build = GaugeMetricFamily("penstock_build_info", "1, labelled with what runs.", labels=["version", "python"])
    build.add_metric([VERSION, platform.python_version()], 1)
    yield build
    yield GaugeMetricFamily("penstock_ready", "1 while /readyz says so.", value=int(runtime.ready))
    yield GaugeMetricFamily(
        "penstock_out_of_descriptors", "1 while new clients are turned away for want of file descriptors.",
        value=int(runtime.out_of_descriptors),
    )  # fmt: skip
    reloads = CounterMetricFamily("penstock_config_reloads", "Reloads by how they ended.", labels=["result"])
    for result, count in runtime.reloads.items():
        reloads.add_metric([result], count)
    yield reloads
    last = runtime.last_reload
    yield GaugeMetricFamily(
        "penstock_config_last_reload_successful",
        "0 when the file on disk is not what runs, because it could not be applied.",
        value=int(last is None or last.successful),
    )
    yield GaugeMetricFamily(
        "penstock_config_last_applied_timestamp_seconds", "When the running configuration was applied.",
        value=runtime.applied_at,
    )  # fmt: skip


def _listeners(proxy: Proxy) -> Iterator[Metric]:
    label = ["listener"]
    accepted = CounterMetricFamily("penstock_listener_connections", "Connections accepted.", labels=label)
    active = GaugeMetricFamily("penstock_listener_connections_active", "Connections open now.", labels=label)
    received = CounterMetricFamily("penstock_listener_received_bytes", "Bytes from clients.", labels=label)
    sent = CounterMetricFamily("penstock_listener_sent_bytes", "Bytes to clients.", labels=label)
    tls_failed = CounterMetricFamily("penstock_listener_tls_handshakes_failed", "Failed handshakes.", labels=label)
    denied = CounterMetricFamily(
        "penstock_connections_denied", "Connections refused, by the security group or ACL rule.",
        labels=["listener", "rule"],
    )  # fmt: skip
    failed = CounterMetricFamily(
        "penstock_listener_failures",
        "Exchanges that failed, by the access log's reason.",
        labels=["listener", "reason"],
    )
    matched = CounterMetricFamily(
        "penstock_listener_rule_matches", "Requests by the listener rule that decided.", labels=["listener", "rule"]
    )
    requests = CounterMetricFamily(
        "penstock_http_requests", "Requests by class of the answer's status.", labels=["listener", "code_class"]
    )
    durations = HistogramMetricFamily(
        "penstock_http_request_duration_seconds", "First byte of the request to last byte of the answer.", labels=label
    )
    for key, listener in proxy.listeners.items():
        counters = listener.counters
        accepted.add_metric([key], counters.accepted)
        active.add_metric([key], counters.active)
        received.add_metric([key], counters.bytes_in)
        sent.add_metric([key], counters.bytes_out)
        for family, counts in ((denied, counters.denied), (failed, counters.failed), (matched, counters.rule_hits)):
            for reason, count in counts.items():
                family.add_metric([key, str(reason)], count)
        if listener.spec.protocol in ("HTTPS", "TLS"):
            tls_failed.add_metric([key], counters.tls_failed)
        if listener.spec.protocol in ("HTTP", "HTTPS"):
            for code_class, count in zip(CODE_CLASSES, counters.responses, strict=True):
                requests.add_metric([key, code_class], count)
            durations.add_metric([key], _cumulative(counters.duration_count), counters.duration_sum)
    yield from (accepted, active, received, sent, tls_failed, denied, failed, matched, requests, durations)


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus buckets hold everything up to their bound; ours hold what fell between two."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip(BUCKET_LABELS, counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


def _targets(proxy: Proxy) -> Iterator[Metric]:
    """A target that drains while its successor of the same address serves is one series: the sums of both."""
    label = ["target_group", "target"]
    healthy = GaugeMetricFamily(
        "penstock_target_healthy", "1 when health checks say so, or none is made.", labels=label
    )
    in_flight = GaugeMetricFamily("penstock_target_in_flight", "Requests or connections at the target.", labels=label)
    draining = GaugeMetricFamily("penstock_target_draining", "1 while it finishes what it began.", labels=label)
    requests = CounterMetricFamily("penstock_target_requests", "Requests or connections sent.", labels=label)
    connects = CounterMetricFamily("penstock_target_connects", "Connections opened.", labels=label)
    retries = CounterMetricFamily(
        "penstock_target_retries", "Requests sent again after a stale connection.", labels=label
    )
    ejections = CounterMetricFamily("penstock_target_ejections", "Times left out for failed requests.", labels=label)
    received = CounterMetricFamily("penstock_target_received_bytes", "Bytes from the target.", labels=label)
    sent = CounterMetricFamily("penstock_target_sent_bytes", "Bytes to the target.", labels=label)
    responses = CounterMetricFamily(
        "penstock_target_responses", "Answers by class of status.", labels=[*label, "code_class"]
    )
    failed = CounterMetricFamily("penstock_target_failures", "What went wrong there.", labels=[*label, "reason"])
    for group_name, group in proxy.groups.items():
        is_http = group.spec.protocol in ("HTTP", "HTTPS")
        by_key: dict[str, list[Target]] = {}
        for target in group.targets:
            by_key.setdefault(target.spec.key, []).append(target)
        for key, same in by_key.items():
            at = [group_name, key]
            counters = [target.counters for target in same]
            healthy.add_metric(at, int(any(_is_healthy(target) for target in same)))
            in_flight.add_metric(at, sum(target.in_flight for target in same))
            draining.add_metric(at, int(all(target.draining for target in same)))
            requests.add_metric(at, sum(c.requests for c in counters))
            connects.add_metric(at, sum(c.connects for c in counters))
            if group.spec.outlier_detection is not None:
                ejections.add_metric(at, sum(c.ejections for c in counters))
            received.add_metric(at, sum(c.bytes_in for c in counters))
            sent.add_metric(at, sum(c.bytes_out for c in counters))
            reasons: Counter[str] = Counter()
            for c in counters:
                reasons.update(c.failed)
            for reason, count in reasons.items():
                failed.add_metric([*at, reason], count)
            if is_http:
                retries.add_metric(at, sum(c.retries for c in counters))
                for number, code_class in enumerate(CODE_CLASSES):
                    # A class appears with its first answer: six zeros for each of a thousand targets say nothing.
                    if count := sum(c.responses[number] for c in counters):
                        responses.add_metric([*at, code_class], count)
    yield from (healthy, in_flight, draining, requests, connects, ejections, retries, received, sent, responses, failed)


def _is_healthy(target: Target) -> bool:
    record = target.health()
    return record.state == "healthy" if record is not None else target.check_key is None


def _names(names: Mapping[str, Name], now: float) -> Iterator[Metric]:
    """How targets by name are found. In a process with workers it is the supervisor that asks."""
    label = ["host"]
    asked = CounterMetricFamily(
        "penstock_target_name_lookups", "Times that a target's name was asked for.", labels=label
    )
    failed = CounterMetricFamily("penstock_target_name_lookup_failures", "Those that brought no address.", labels=label)
    found = GaugeMetricFamily("penstock_target_name_addresses", "Addresses in use.", labels=label)
    age = GaugeMetricFamily("penstock_target_name_answer_age_seconds", "Since the last good answer.", labels=label)
    for host, name in names.items():
        asked.add_metric([host], name.asked)
        failed.add_metric([host], name.failed)
        found.add_metric([host], len(name.addresses))
        if name.learned is not None:
            age.add_metric([host], max(0.0, now - name.learned))  # the loop's clock is this one, read earlier
    yield from (asked, failed, found, age)


def _dns(counters: DnsCounters) -> Iterator[Metric]:
    queries = CounterMetricFamily("penstock_dns_queries", "Questions, by type.", labels=["transport", "type"])
    for (transport, type_name), count in counters.queries.items():
        queries.add_metric([transport, type_name], count)
    yield queries
    by_word = (
        ("penstock_dns_responses", "Answers by response code.", "rcode", counters.responses),
        ("penstock_dns_dropped", "Packets never answered, by reason.", "reason", counters.dropped),
        ("penstock_dns_rejected", "Packets that are no good query, and were told so.", "reason", counters.rejected),
        (
            "penstock_dns_refused",
            "Queries refused, answers held back or cut short, by reason.",
            "reason",
            counters.refused,
        ),
        ("penstock_dns_resolver_answers", "Answers of resolvers.", "resolver", counters.forward_answers),
        ("penstock_dns_resolver_failures", "Silence of resolvers.", "resolver", counters.forward_failures),
        ("penstock_dns_resolver_seconds", "What their answers took, in all.", "resolver", counters.forward_seconds),
        ("penstock_dns_send_failures", "Answers the kernel would not send.", "reason", counters.send_failed),
    )
    for name, text, label, counts in by_word:
        family = CounterMetricFamily(name, text, labels=[label])
        for word, count in counts.items():
            family.add_metric([word], count)
        yield family
    plain = (
        ("penstock_dns_truncated", "Answers sent with TC.", counters.truncated),
        ("penstock_dns_forwarded", "Questions that resolvers were asked.", counters.forwarded),
        ("penstock_dns_forward_tries", "Queries sent to resolvers for them.", counters.forward_tries),
        ("penstock_dns_forward_failures", "Questions that no resolver answered.", counters.forward_failed),
        ("penstock_dns_forward_coalesced", "Clients who joined a question under way.", counters.forward_coalesced),
        ("penstock_dns_forward_hedged", "Queries to a second resolver at the same time.", counters.forward_hedged),
        ("penstock_dns_forward_tcp", "Queries to resolvers over TCP.", counters.forward_tcp),
        ("penstock_dns_forward_unusable", "Answers that say nothing about the name.", counters.forward_unusable),
        ("penstock_dns_forward_folded", "Answers in letters of another case.", counters.forward_folded),
        ("penstock_dns_forward_ignored", "Packets that answered no question.", counters.forward_ignored),
        ("penstock_dns_forward_loops", "Questions of ours that came back.", counters.forward_loops),
        (
            "penstock_dns_forward_remembered_failures",
            "Questions that had failed a moment ago.",
            counters.forward_remembered_failures,
        ),
        ("penstock_dns_private_reverse", "Names of private addresses kept home.", counters.private_reverse),
        ("penstock_dns_cache_stale", "Answers given past their end.", counters.cache_stale),
        ("penstock_dns_cache_prefetches", "Answers fetched anew before their end.", counters.cache_prefetches),
        ("penstock_dns_tls_handshakes_failed", "Handshakes of TLS and HTTPS.", counters.tls_handshakes_failed),
        ("penstock_dns_query_log_lost", "Lines for which the disk was too slow.", counters.query_log_lost),
        ("penstock_dns_cache_hits", "Forwarded questions answered from the cache.", counters.cache_hits),
        ("penstock_dns_cache_misses", "Forwarded questions the cache did not know.", counters.cache_misses),
        ("penstock_dns_tcp_connections", "Connections accepted.", counters.tcp_accepted),
        ("penstock_dns_tcp_connections_refused", "Connections over a limit.", counters.tcp_refused),
        ("penstock_dns_internal_errors", "Bugs of ours; the log has them.", counters.internal_errors),
    )
    for name, text, count in plain:
        yield CounterMetricFamily(name, text, value=count)
    yield GaugeMetricFamily("penstock_dns_tcp_connections_active", "Connections open now.", value=counters.tcp_active)


def _workers(workers: Workers) -> Iterator[Metric]:
    """The process metrics beside these are the supervisor's own."""
    label = ["worker"]
    up = GaugeMetricFamily("penstock_worker_up", "1 while it serves.", labels=label)
    restarts = CounterMetricFamily("penstock_worker_restarts", "Times that it was replaced.", labels=label)
    seconds = CounterMetricFamily("penstock_worker_cpu_seconds", "Processor time of the present one.", labels=label)
    memory = GaugeMetricFamily("penstock_worker_resident_memory_bytes", "Memory of the present one.", labels=label)
    for worker in workers.statuses():
        at = [str(worker.number)]
        up.add_metric(at, int(worker.up))
        restarts.add_metric(at, worker.restarts)
        seconds.add_metric(at, worker.cpu_seconds)
        memory.add_metric(at, worker.resident_bytes)
    yield from (up, restarts, seconds, memory)
