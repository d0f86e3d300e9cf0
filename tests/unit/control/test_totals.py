"""Counters of several processes become one: sums of everything, and nothing that goes back."""

from __future__ import annotations

from penstock.control.totals import Snapshot, filled, show, snapshot, values_of
from penstock.dns.counters import DnsCounters
from penstock.proxy.counters import ListenerCounters, TargetCounters
from penstock.proxy.health import HealthTable
from penstock.proxy.server import Proxy
from penstock.proxy.specs import Forward, ListenerSpec, ProxySpec, TargetGroupSpec, TargetSpec, WeightedGroup
from support import free_port, run


def listener(accepted: int, active: int) -> ListenerCounters:
    counters = ListenerCounters()
    counters.accepted = accepted
    counters.active = active
    counters.duration_sum = accepted / 2
    counters.responses[2] = accepted
    counters.denied["sg web ingress"] += accepted
    return counters


def test_every_slot_that_counts_is_a_number_a_list_or_a_mapping() -> None:
    """A counter of another kind could not be added up."""
    for kind in (ListenerCounters, TargetCounters, DnsCounters):
        for slot, value in values_of(kind()).items():
            assert isinstance(value, int | float | list | dict), f"{kind.__name__}.{slot}"
            assert filled(kind, {slot: value}) is not None


def test_what_is_taken_is_a_copy() -> None:
    counters = listener(1, 1)
    taken = values_of(counters)
    counters.responses[2] += 1
    counters.denied["other"] += 1
    assert (taken["responses"][2], taken["denied"]) == (1, {"sg web ingress": 1})


def test_numbers_lists_and_mappings_are_added_up() -> None:
    total = Snapshot()
    for accepted, active in ((3, 1), (4, 2)):
        total.add(
            Snapshot(
                {"127.0.0.1:80": values_of(listener(accepted, active))},
                cpu_seconds=1.5,
                resident_bytes=10,
                out_of_descriptors=active - 1,
            )
        )
    dns = DnsCounters()
    dns.count("udp", 1, 0, 5)
    total.add(Snapshot(dns=values_of(dns)))
    total.add(Snapshot(dns=values_of(dns)))
    found = filled(ListenerCounters, total.listeners["127.0.0.1:80"])
    assert (found.accepted, found.active, found.duration_sum) == (7, 3, 3.5)
    assert found.responses == [0, 0, 7, 0, 0, 0]
    assert found.denied == {"sg web ingress": 7}
    found.denied["new"] += 1  # as live as any
    assert filled(DnsCounters, total.dns).queries == {("udp", "A"): 10}
    assert (total.cpu_seconds, total.resident_bytes, total.out_of_descriptors) == (3.0, 20, 1)


def test_what_a_dead_process_counted_stays_and_what_it_held_goes() -> None:
    target = values_of(TargetCounters()) | {"requests": 9, "in_flight": 2}
    dns = values_of(DnsCounters()) | {"tcp_accepted": 4, "tcp_active": 1}
    dead = Snapshot({"a": values_of(listener(5, 3))}, {("web", "b", False): target}, dns, 1.0, 100, 1)
    left = dead.without_gauges()
    assert filled(ListenerCounters, left.listeners["a"]).accepted == 5
    assert filled(ListenerCounters, left.listeners["a"]).active == 0
    assert left.targets["web", "b", False]["requests"] == 9
    assert "in_flight" not in left.targets["web", "b", False]
    assert (left.dns["tcp_accepted"], "tcp_active" in left.dns) == (4, False)
    assert (left.resident_bytes, left.out_of_descriptors) == (0, 0)


def test_a_proxy_that_serves_nobody_shows_what_the_others_counted() -> None:
    def spec(*ports: int) -> ProxySpec:
        group = TargetGroupSpec("web", targets=tuple(TargetSpec("127.0.0.1", port) for port in ports))
        return ProxySpec((ListenerSpec("lb", "127.0.0.1", front, "HTTP", Forward((WeightedGroup("web"),))),), (group,))

    async def main() -> None:
        table = HealthTable()
        workers = [Proxy(table, sharing="shared"), Proxy(table, sharing="shared")]
        shown = Proxy(table, sharing="reserved")
        for proxy in (shown, *workers):
            (await proxy.prepare(spec(1, 2))).commit()
        for requests, proxy in zip((10, 20), workers, strict=True):
            (one, other) = proxy.groups["web"].targets
            one.counters.requests, one.in_flight = requests, requests // 10
            other.counters.requests = 1
            next(iter(proxy.listeners.values())).counters.requests = requests + 1

        def look() -> None:
            total = Snapshot()
            for proxy in workers:
                total.add(snapshot(proxy, DnsCounters()))
            show(total, shown)

        look()
        (only,) = shown.listeners.values()
        assert only.counters.requests == 32
        assert [target.counters.requests for target in shown.groups["web"].targets] == [30, 2]
        assert [target.in_flight for target in shown.groups["web"].targets] == [3, 0]
        # What is removed while requests are there drains everywhere, and so it does here.
        for proxy in (shown, *workers):
            (await proxy.prepare(spec(2))).commit()
        look()
        kept, draining = shown.groups["web"].targets
        assert (kept.key, kept.counters.requests) == ("127.0.0.1:2", 2)
        assert (draining.key, draining.draining, draining.in_flight) == ("127.0.0.1:1", True, 3)
        for proxy in workers:
            proxy.groups["web"].targets[1].in_flight = 0
        look()
        assert shown.groups["web"].targets[1].in_flight == 0
        for proxy in (shown, *workers):
            await proxy.stop(0)

    front = free_port()
    run(main())
