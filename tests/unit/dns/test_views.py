"""Who sees which names, and what is near for whom."""

from __future__ import annotations

import pytest

from penstock.dns.specs import InstanceSpec, NetworkSpec, RoutingPolicy, ServiceSpec
from support.dns_answers import answers_of, said, zone

HERE, THERE, STRANGER = "10.0.1.9", "10.0.2.9", "203.0.113.9"
NETWORKS = (
    NetworkSpec("vpc", ("10.0.0.0/16",), "", "west", "us"),
    NetworkSpec("a", ("10.0.1.0/24",), "a", "west", "us/ca"),
    NetworkSpec("b", ("10.0.2.0/24", "2001:db8::/32"), "b", "east", "eu/de"),
)


def service(policy: RoutingPolicy = "weighted", name: str = "api", **others: object) -> ServiceSpec:
    instances = (
        InstanceSpec("a1", "192.0.2.1", 80, zone="a", region="west", location="us", health_key="a1"),
        InstanceSpec("a2", "192.0.2.2", 80, zone="a", region="west", location="us/ca", health_key="a2"),
        InstanceSpec("b1", "192.0.2.3", 80, zone="b", region="east", location="", health_key="b1"),
        InstanceSpec("c1", "192.0.2.4", 80, zone="c", region="west", location="us", health_key="c1"),
    )
    return ServiceSpec(name, (("A", 60),), policy, instances, **others)  # type: ignore[arg-type]


def last(answers: object, client: str) -> str:
    """The last numbers of the addresses answered, in order of the instances."""
    return "".join(sorted(line[-1] for line in said(answers, "api.services", "A", client=client)))  # type: ignore[arg-type]


def test_names_of_a_network_do_not_exist_for_others() -> None:
    answers = answers_of(
        zone(service(), networks=("a", "b")),
        zone(service(), names=("open.example",)),
        networks=NETWORKS,
        listen=(("127.0.0.1", 53),),
    )
    assert len(said(answers, "api.services", "A", client=HERE)) == 4
    assert len(said(answers, "api.services", "A", client="2001:db8::9")) == 4
    for client in ("10.0.3.9", STRANGER):
        assert said(answers, "api.services", "A", client=client) == ["not ours"]
        assert said(answers, "nope.services", "A", client=client) == ["not ours"]
        assert len(said(answers, "api.open.example", "A", client=client)) == 4
    assert said(answers, "nope.services", "A", client=HERE) == ["NXDOMAIN", "SOA services."]


def test_addresses_are_named_by_what_the_client_sees() -> None:
    answers = answers_of(zone(service(), networks=("a",)), zone(service(), names=("open.example",)), networks=NETWORKS)
    name = "1.2.0.192.in-addr.arpa"
    ours, open_ = f"{name}. PTR a1.api.services.", f"{name}. PTR a1.api.open.example."
    assert said(answers, name, "PTR", client=HERE) == [ours, open_]
    assert said(answers, name, "PTR", client=STRANGER) == [open_]
    hidden = answers_of(zone(service(), networks=("a",)), networks=NETWORKS)
    assert said(hidden, name, "PTR", client=STRANGER) == ["not ours"]


def test_a_hidden_zone_inside_a_visible_one_is_as_if_it_were_not_there() -> None:
    inner = zone(service(), names=("inner.example",), networks=("a",))
    answers = answers_of(zone(names=("example",)), inner, networks=NETWORKS)
    assert said(answers, "api.inner.example", "A", client=STRANGER) == ["NXDOMAIN", "SOA example."]
    assert len(said(answers, "api.inner.example", "A", client=HERE)) == 4


@pytest.mark.parametrize(
    ("sick", "here", "there", "stranger"),
    [
        ("", "12", "3", "1234"),
        ("a1", "2", "3", "234"),  # half of the zone still serves it
        ("a1 a2", "34", "3", "34"),  # the zone is out, and so is most of its region: everybody helps
        ("a1 a2 c1", "3", "3", "3"),
        ("b1", "12", "124", "124"),
        ("a1 a2 b1 c1", "12", "3", "1234"),  # fail open, and still near
    ],
)
def test_near_zones_first_with_spill_over(sick: str, here: str, there: str, stranger: str) -> None:
    answers = answers_of(zone(service(zone_affinity=True)), networks=NETWORKS, sick=set(sick.split()))
    assert [last(answers, client) for client in (HERE, THERE, STRANGER)] == [here, there, stranger]


def test_secondaries_do_not_count_for_the_health_of_a_zone() -> None:
    primary = InstanceSpec("a1", "192.0.2.1", 80, zone="a")
    others = (InstanceSpec(f"a{n}", f"192.0.2.{n}", 80, zone="a", failover="secondary") for n in (2, 3, 4))
    elsewhere = InstanceSpec("b5", "192.0.2.5", 80, zone="b")
    api = ServiceSpec("api", (("A", 60),), "failover", (primary, *others, elsewhere), zone_affinity=True)
    assert last(answers_of(zone(api), networks=NETWORKS), HERE) == "1"


def test_latency_goes_by_the_table_both_ways() -> None:
    def answered(client: str, *sick: str, latencies: tuple[tuple[str, str, float], ...] = ()) -> str:
        return last(
            answers_of(zone(service("latency")), networks=NETWORKS, sick=set(sick), latencies=latencies), client
        )

    assert answered(HERE) == "124"
    assert answered(THERE) == "3"
    assert answered(THERE, "b1") == "124", "nothing is known of west, and nobody else is there"
    table = (("east", "west", 0.07),)
    assert answered(HERE, "a1", "a2", "c1", latencies=table) == "3"
    assert answered(STRANGER, latencies=table) == "1234"
    assert answered(HERE, latencies=(("west", "west", 0.1), ("west", "east", 0.07))) == "3"


def test_geolocation_takes_the_longest_location_and_has_a_default() -> None:
    answers = answers_of(zone(service("geolocation")), networks=NETWORKS, sick={"none"})
    assert [last(answers, client) for client in (HERE, "10.0.3.9", THERE, STRANGER)] == ["2", "14", "3", "3"]
    sick = answers_of(zone(service("geolocation")), networks=NETWORKS, sick={"a2"})
    assert last(sick, HERE) == "14"
    nobody = answers_of(zone(service("geolocation")), networks=NETWORKS, sick={"b1"})
    assert said(nobody, "api.services", "A", client=STRANGER) == ["SOA services."]


def test_networks_that_make_no_difference_make_no_views() -> None:
    assert answers_of(zone(service()), networks=NETWORKS).views.only is not None
    assert len(answers_of(zone(service("latency")), networks=NETWORKS).views.all) == 3  # none, west, east
    assert len(answers_of(zone(service(zone_affinity=True)), networks=NETWORKS).views.all) == 4


def test_an_unknown_network_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no network 'c'"):
        answers_of(zone(networks=("c",)), networks=NETWORKS)
