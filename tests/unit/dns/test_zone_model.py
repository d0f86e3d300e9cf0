"""Any zone, any question: what RFC 1034 section 4.3.2 and RFC 4592 say, written down again and plainly, we say too."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.dns.answers import CHAIN_LIMIT
from penstock.dns.specs import RecordSpec
from support.dns_answers import answers_of, message, said, zone

Name = tuple[str, ...]  # from the leaf to the zone, without its own label
Tree = dict[Name, dict[str, str]]

labels = st.sampled_from(["a", "b", "c"])
names: st.SearchStrategy[Name] = st.lists(labels, min_size=1, max_size=3).map(tuple)
owners = names | names.map(lambda name: ("*", *name)) | st.just(("*",))
data = st.sampled_from(["A", "TXT"]) | names


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A CNAME stands alone; its target is a name of the zone."""
    tree: Tree = {}
    for owner, value in draw(st.lists(st.tuples(owners, data), max_size=12)):
        there = tree.setdefault(owner, {})
        if isinstance(value, str):
            if "CNAME" not in there:
                there[value] = "192.0.2.1" if value == "A" else "text"
        elif not there:
            there["CNAME"] = text(value)
    return tree


def text(name: Name) -> str:
    return ".".join((*name, "services"))


def exists(tree: Tree, name: Name) -> bool:
    """Names above one that exists do too, with or without records of their own."""
    return not name or any(owner[-len(name) :] == name for owner in tree)


def records_at(tree: Tree, name: Name) -> dict[str, str] | None:
    """What stands at a name, or what a wildcard puts there; None: the name does not exist."""
    if exists(tree, name):
        return tree.get(name, {})
    encloser = next(name[cut:] for cut in range(1, len(name) + 1) if exists(tree, name[cut:]))
    return tree.get(("*", *encloser))


def expected(tree: Tree, name: Name, rtype: str) -> list[str]:
    lines: list[str] = []
    seen = {name}
    while True:
        records = records_at(tree, name)
        if records is None:
            return ["NXDOMAIN", *lines, "SOA services."]
        if rtype in records:
            shown = f'"{records[rtype]}"' if rtype == "TXT" else records[rtype]
            return [*lines, f"{text(name)}. {rtype} {shown}"]
        if "CNAME" not in records:
            return [*lines, "SOA services."]
        lines.append(f"{text(name)}. CNAME {records['CNAME']}.")
        name = tuple(records["CNAME"].split(".")[:-1])
        if name in seen or len(lines) == CHAIN_LIMIT:
            return lines
        seen.add(name)


@settings(deadline=None, max_examples=300)
@given(trees(), names, st.sampled_from(["A", "TXT", "AAAA"]))
def test_any_zone_says_what_the_rules_say(tree: Tree, name: Name, rtype: str) -> None:
    records = tuple(
        RecordSpec(".".join(owner), kind, 30, (value,))  # type: ignore[arg-type]
        for owner, there in tree.items()
        for kind, value in there.items()
    )
    answers = answers_of(zone(records=records))
    assert said(answers, text(name), rtype) == expected(tree, name, rtype)
    got = message(answers, text(name), rtype, edns=True)
    assert got.to_wire(), "dnspython reads it, and can write what it has read"
