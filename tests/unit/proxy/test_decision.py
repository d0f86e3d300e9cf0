"""Decisions as records: the same judgement as live requests get, and every step on the way to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.proxy.decision import Asked, Candidate, Decision, Surroundings, decide
from penstock.proxy.firewall import Firewall
from penstock.proxy.rules import RuleTable, Tried
from penstock.proxy.server_names import HostGuard
from penstock.proxy.specs import (
    ALL_PORTS,
    AclRuleSpec,
    Conditions,
    FirewallSpec,
    FixedResponse,
    Forward,
    ListenerSpec,
    NetworkAclSpec,
    Peers,
    PlacementSpec,
    Redirect,
    Rewrite,
    RuleSpec,
    SecurityGroupSpec,
    SecurityRuleSpec,
    TargetGroupSpec,
    TargetSpec,
    WeightedGroup,
)

EVERYONE = Peers("0.0.0.0/0", ("0.0.0.0/0",))
ACL = NetworkAclSpec(
    "edge",
    inbound=(AclRuleSpec(100, "tcp", (443, 443), EVERYONE, True),),
    outbound=(AclRuleSpec(200, "tcp", (1024, 65535), EVERYONE, True),),
)
WEB = SecurityGroupSpec("web", ingress=(SecurityRuleSpec("tcp", (443, 443), Peers("clients", ("203.0.113.0/24",))),))
GUARDED = FirewallSpec((WEB,), (PlacementSpec("public", "10.0.0.0/24", ACL),))
GROUPS = {
    "blue": TargetGroupSpec(
        "blue", targets=(TargetSpec("10.0.1.1", 80), TargetSpec("10.0.1.2", 80), TargetSpec("10.0.1.3", 80, weight=0))
    ),
    "green": TargetGroupSpec("green"),
}
LISTENER = ListenerSpec(
    "app-lb",
    "10.0.0.10",
    443,
    "HTTPS",
    FixedResponse(404),
    rules=(
        RuleSpec(1, Conditions(host=("api.example.org",), method=("POST",)), FixedResponse(200)),
        RuleSpec(2, Conditions(header=(("x-old", ("yes",)),)), Redirect(301, path="/new")),
        RuleSpec(
            3,
            Conditions(host=("app.*",)),
            Forward((WeightedGroup("blue", 3), WeightedGroup("green", 1))),
            url_rewrite=Rewrite("^/api", ""),
        ),
        RuleSpec(4, Conditions(host=("gone.*",)), Forward((WeightedGroup("green"),)), url_rewrite=Rewrite("^/", "")),
    ),
    firewall=GUARDED,
)
ASKED = Asked("203.0.113.9", 50000, "10.0.0.10", 443, b"GET", b"app.example.org", b"/api/x?y", ((b"X-Old", b"no"),))
ASKED = replace(ASKED, server_name="app.example.org")
TENANT = HostGuard({b"www.example.org"}, {b"www.example.org", b"app.example.org"})
GUARDS = {"www.example.org": TENANT}  # by server name; the others are shown what is for every host
UNGUARDED_GROUPS: dict[str, Firewall] = {}


def decided(
    listener: ListenerSpec = LISTENER, unhealthy: str = "", egress: FirewallSpec | None = None, **asked
) -> Decision:
    return decide(
        replace(ASKED, **asked),
        Surroundings(
            listener,
            RuleTable(listener.rules, listener.default_action),
            Firewall(listener.firewall),
            GROUPS,
            {"blue": Firewall(egress)} if egress else UNGUARDED_GROUPS,
            lambda _, target: target.ip != unhealthy,
            lambda name: (f"certificate of {name}",),
            GUARDS.get,
        ),
    )


def test_every_step_is_in_the_record() -> None:
    decision = decided()
    assert [verdict.rule for verdict in decision.verdicts] == [
        "acl:edge/inbound/100",
        "acl:edge/outbound/200",
        "sg:web/ingress/0",
    ]
    assert decision.admitted
    assert (decision.listener, decision.certificates) == ("10.0.0.10:443", ("certificate of app.example.org",))
    assert decision.tried == (
        Tried("1", "host", b"app.example.org"),
        Tried("2", "header x-old", b"no"),
        Tried("3", "", b""),
    )
    assert (decision.rule, decision.action, decision.sent_target) == ("3", "forward", "/x?y")
    blue, green = decision.shares
    assert (blue.target_group, blue.share, green.share) == ("blue", 0.75, 0.25)
    assert blue.candidates == (
        Candidate("10.0.1.1:80", 1, None, True),
        Candidate("10.0.1.2:80", 1, None, True),
        Candidate("10.0.1.3:80", 0, None, False, "standby: its weight is 0"),
    )
    assert green.candidates == ()


@pytest.mark.parametrize(
    ("asked", "rules"),
    [
        ({"source": "198.51.100.1"}, ["acl:edge/inbound/100", "acl:edge/outbound/200", "sg:web/ingress/default"]),
        ({"source_port": 80}, ["acl:edge/inbound/100", "acl:edge/outbound/*"]),
        ({"port": 80}, ["acl:edge/inbound/*"]),
    ],
)
def test_the_verdicts_end_with_the_first_denial(asked, rules: list[str]) -> None:
    decision = decided(**asked)
    assert [verdict.rule for verdict in decision.verdicts] == rules
    assert not decision.admitted
    assert (decision.rule, decision.action, decision.shares) == ("", "", ())
    wanted = replace(ASKED, **asked)
    live = Firewall(GUARDED).arrival(wanted.source, wanted.source_port, wanted.local, wanted.port)
    assert live == decision.verdicts[-1]


def test_inside_the_subnet_the_acl_has_no_say() -> None:
    assert [verdict.rule for verdict in decided(source="10.0.0.77").verdicts] == ["sg:web/ingress/default"]


@pytest.mark.parametrize(
    ("asked", "rule", "action", "answer"),
    [
        ({"host": b"API.example.org:443", "method": b"POST"}, "1", "fixed-response", "200"),
        (
            {"fields": ((b"x-old", b"yes"),), "host": b"app.example.org:443"},
            "2",
            "redirect",
            "301 https://app.example.org/new?y",
        ),
        ({"host": b"other.example.org"}, "default", "fixed-response", "404"),
    ],
)
def test_our_own_answers_are_said(asked, rule: str, action: str, answer: str) -> None:
    decision = decided(**asked)
    assert (decision.rule, decision.action, decision.answer) == (rule, action, answer)
    assert (decision.shares, decision.sent_target) == ((), "")


def test_a_rewrite_that_fails_is_told() -> None:
    assert decided(host=b"gone.example.org").sent_target == "500 rewrite_failed: no path"


def test_targets_that_are_not_picked_say_why() -> None:
    inside = SecurityRuleSpec("tcp", ALL_PORTS, Peers("10.0.1.1/32", ("10.0.1.1/32",)))
    egress = FirewallSpec((SecurityGroupSpec("web", egress=(inside,)),))
    one, two, standby = decided(unhealthy="10.0.1.2").shares[0].candidates
    assert (one.picked, two.picked, two.why_not) == (True, False, "unhealthy, or left out for its failures")
    assert standby.why_not.startswith("standby")
    _, denied, _ = decided(egress=egress).shares[0].candidates
    assert denied.picked
    assert "503" in denied.why_not
    assert "tcp 80 to 10.0.1.2" in denied.why_not


def test_a_host_of_another_tenant_meets_no_rule() -> None:
    decision = decided(server_name="www.example.org", host=b"APP.example.org:443")
    assert (decision.misdirected, decision.answer, decision.action, decision.tried) == (True, "421", "", ())
    assert decision.admitted
    assert decision.server_name == "www.example.org"
    fitting = decided(server_name="www.example.org", host=b"www.example.org")
    assert (fitting.misdirected, fitting.rule) == (False, "default")
    nameless = decided(server_name=None)
    assert (nameless.misdirected, nameless.certificates, nameless.rule) == (False, ("certificate of ",), "3")


def test_unix_sockets_have_no_addresses_to_judge() -> None:
    group = TargetGroupSpec("blue", targets=(TargetSpec("/run/app.sock", 0),))
    listener = replace(LISTENER, address="/run/penstock.sock", port=0, protocol="HTTP")
    decision = decide(
        replace(ASKED, source="unix", source_port=0, local="unix"),
        Surroundings(
            listener,
            RuleTable(listener.rules, listener.default_action),
            Firewall(GUARDED),
            {**GROUPS, "blue": group},
            {"blue": Firewall(GUARDED)},
            lambda *_: True,
            lambda _: (),
            GUARDS.get,
        ),
    )
    assert (decision.verdicts, decision.rule) == ((), "3")
    assert decision.shares[0].candidates == (Candidate("unix:/run/app.sock", 1, None, True),)
