"""Rule matching: ALB's documented semantics as rows, and the compiled table against `first match in order`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy.rules import FEW_RULES, RuleTable, Tried, host_without_port, pick_group, weigh
from penstock.proxy.specs import Conditions, FixedResponse, Forward, RuleSpec, WeightedGroup

from .test_patterns import plain_fits

DEFAULT = Forward((WeightedGroup("tg-default"),))


def no_headers(name: bytes) -> Sequence[bytes]:
    return ()


def fields(**values: Sequence[bytes]) -> Callable[[bytes], Sequence[bytes]]:
    return lambda name: values.get(name.decode().replace("-", "_"), ())


def table(*conditions: Conditions) -> RuleTable:
    """Rules of priority 10, 20, ... with one set of conditions each."""
    return RuleTable(
        [RuleSpec(10 * n, each, FixedResponse(200 + n)) for n, each in enumerate(conditions, start=1)], DEFAULT
    )


@pytest.mark.parametrize(
    ("conditions", "method", "host", "path", "matches"),
    [
        (Conditions(host=("api.example.org",)), b"GET", b"api.example.org", b"/", True),
        (Conditions(host=("API.example.org",)), b"GET", b"api.EXAMPLE.org", b"/", True),
        (Conditions(host=("api.example.org",)), b"GET", b"api.example.org:8443", b"/", True),
        (Conditions(host=("api.example.org",)), b"GET", b"xapi.example.org", b"/", False),
        (Conditions(host=("*.example.org",)), b"GET", b"test.example.org", b"/", True),
        (Conditions(host=("*.example.org",)), b"GET", b"example.org", b"/", False),
        (Conditions(host=("a?.example.org", "b.example.org")), b"GET", b"b.example.org", b"/", True),
        (Conditions(host=("a?.example.org", "b.example.org")), b"GET", b"a.example.org", b"/", False),
        (Conditions(host=("[2001:db8::1]",)), b"GET", b"[2001:DB8::1]:80", b"/", True),
        (Conditions(host=("*",)), b"GET", b"", b"/", True),
        (Conditions(path=("/api/*",)), b"GET", b"h", b"/api/v1?x=/y", True),
        (Conditions(path=("/api",)), b"GET", b"h", b"/api?x=1", True),
        (Conditions(path=("*x=1",)), b"GET", b"h", b"/api?x=1", False),  # the query is not the path's
        (Conditions(path=("/api/*",)), b"GET", b"h", b"/API/v1", False),
        (Conditions(path=("/a", "/b")), b"GET", b"h", b"/b", True),
        (Conditions(method=("GET", "POST")), b"POST", b"h", b"/", True),
        (Conditions(method=("GET",)), b"get", b"h", b"/", False),
        (Conditions(method=("P*",)), b"POST", b"h", b"/", False),  # no wildcards in methods
        (Conditions(host=("a.example.org",), path=("/x",)), b"GET", b"a.example.org", b"/x", True),
        (Conditions(host=("a.example.org",), path=("/x",)), b"GET", b"a.example.org", b"/y", False),
        (Conditions(host=("a.example.org",), path=("/x",), method=("PUT",)), b"GET", b"a.example.org", b"/x", False),
        (Conditions(), b"GET", b"", b"*", True),
    ],
)
def test_conditions(conditions: Conditions, method: bytes, host: bytes, path: bytes, matches: bool) -> None:
    found = table(conditions).match(method, host, path, no_headers)
    assert found.label == ("10" if matches else "default")
    assert found.action == (FixedResponse(201) if matches else DEFAULT)


@pytest.mark.parametrize(
    ("wanted", "values", "matches"),
    [
        ((("X-Canary", ("yes",)),), [b"YES"], True),
        ((("x-canary", ("yes",)),), [b"no", b"yes"], True),  # any line of the field
        ((("x-canary", ("yes",)),), [b"no, yes"], False),  # a line is one value
        ((("x-canary", ("*yes*",)),), [b"no, yes"], True),
        ((("x-canary", ("no", "y?s")),), [b"yes"], True),
        ((("x-canary", ("*",)),), [b""], True),
        ((("x-canary", ("*",)),), [], False),  # a field that is not there fits nothing
        ((("x-canary", ("yes",)), ("user-agent", ("*Chrome*",))), [b"yes"], False),  # every field named must fit
    ],
)
def test_header_conditions(wanted, values: list[bytes], matches: bool) -> None:
    rules = table(Conditions(header=wanted))
    assert rules.needs_headers
    found = rules.match(b"GET", b"h", b"/", fields(x_canary=values))
    assert found.label == ("10" if matches else "default")
    assert found.needs_headers is matches


@pytest.mark.parametrize(
    ("wanted", "query", "matches"),
    [
        (((("version", ("v1",)),),), b"version=v1", True),
        (((("version", ("v1",)),),), b"a=b&VERSION=V1&c", True),  # without case
        (((("version", ("v1",)),),), b"version=v1%20", False),
        (((("version", ("v1",)),),), b"xversion=v1", False),
        (((("version", ("v1", "v2*")),),), b"version=v2.7", True),
        (((("version", ("v1",)), ("beta", ("?",))),), b"beta=1&version=v1", True),  # all names of one alternative
        (((("version", ("v1",)), ("beta", ("?",))),), b"beta=10&version=v1", False),
        (((("a", ("1",)),), (("b", ("1",)),)), b"b=1", True),  # one alternative of several
        (((("*", ("x",)),),), b"anything=x", True),
        (((("a", ("*",)),),), b"a", True),
        (((("a", ("*",)),),), b"", False),
    ],
)
def test_query_conditions(wanted, query: bytes, matches: bool) -> None:
    rules = table(Conditions(query=wanted))
    assert rules.match(b"GET", b"h", b"/?" + query, no_headers).label == ("10" if matches else "default")
    assert rules.explain(b"GET", b"h", b"/?" + query, no_headers)[0].failed == ("" if matches else "query")


@pytest.mark.parametrize(
    ("cidrs", "source", "matches"),
    [
        (("192.0.2.0/24",), "192.0.2.255", True),
        (("192.0.2.0/24",), "192.0.3.0", False),
        (("192.0.2.0/24",), "::ffff:192.0.2.1", True),  # an IPv4 client of a dual-stack socket
        (("192.0.2.1/32", "2001:db8::/32"), "2001:db8::1", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("0.0.0.0/0", "::/0"), "unix", False),  # the client of a unix socket has no address
    ],
)
def test_source_conditions(cidrs: tuple[str, ...], source: str, matches: bool) -> None:
    rules = table(Conditions(source_ip=cidrs))
    assert rules.match(b"GET", b"h", b"/", no_headers, source).label == ("10" if matches else "default")
    failed = rules.explain(b"GET", b"h", b"/", no_headers, source)[0]
    assert failed == (Tried("10", "", b"") if matches else Tried("10", "source_ip", source.encode()))


def test_priority_decides_whatever_the_order_in_the_file_and_the_kind_of_pattern() -> None:
    specs = [
        RuleSpec(50000, Conditions(path=("/a/b",)), DEFAULT),
        RuleSpec(3, Conditions(path=("/a/*",)), DEFAULT),
        RuleSpec(20, Conditions(path=("*",), host=("h.example.org",)), DEFAULT),
        RuleSpec(1, Conditions(path=("/*/never",)), DEFAULT),
    ]
    rules = RuleTable(specs, DEFAULT)
    assert [rule.label for rule in rules.rules] == ["1", "3", "20", "50000"]
    assert rules.match(b"GET", b"h.example.org", b"/a/b", no_headers).label == "3"
    assert rules.match(b"GET", b"h.example.org", b"/z", no_headers).label == "20"
    assert rules.match(b"GET", b"other.example.org", b"/z", no_headers).label == "default"
    assert rules.default.forward is not None


def test_header_is_called_only_when_the_answer_hangs_on_it() -> None:
    asked: list[bytes] = []

    def header(name: bytes) -> Sequence[bytes]:
        asked.append(name)
        return ()

    rules = table(Conditions(path=("/a",)), Conditions(path=("/b",), header=(("X-One", ("1",)),)))
    assert rules.match(b"GET", b"h", b"/a", header).label == "10"
    assert rules.match(b"GET", b"h", b"/c", header).label == "default"
    assert asked == []
    assert rules.match(b"GET", b"h", b"/b", header).label == "default"
    assert asked == [b"x-one"]


def test_explain_says_what_failed_first() -> None:
    rules = table(
        Conditions(host=("a.example.org",)),
        Conditions(path=("/x",)),
        Conditions(method=("POST",)),
        Conditions(header=(("X-One", ("1",)),)),
        Conditions(path=("/y*",)),
        Conditions(path=("/yes",)),
    )
    header = fields(x_one=[b"2", b"3"])
    tried = rules.explain(b"GET", b"B.example.org:80", b"/yes?q", header)
    assert tried == [
        Tried("10", "host", b"b.example.org"),
        Tried("20", "path", b"/yes"),
        Tried("30", "method", b"GET"),
        Tried("40", "header x-one", b"2, 3"),
        Tried("50", "", b""),
    ]
    assert rules.explain(b"GET", b"", b"/", header)[-1] == Tried("default", "", b"")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"example.org", b"example.org"),
        (b"example.org:8080", b"example.org"),
        (b"example.org:", b"example.org"),
        (b"[2001:db8::1]", b"[2001:db8::1]"),
        (b"[2001:db8::1]:443", b"[2001:db8::1]"),
        (b"", b""),
    ],
)
def test_host_without_port(host: bytes, name: bytes) -> None:
    assert host_without_port(host) == name


# A plain reading: rules by priority, every kind that is set, any value within.


def plain_match(rules: Sequence[RuleSpec], method: bytes, host: bytes, path: bytes, header) -> str:
    host = host.lower().split(b":")[0]
    path = path.split(b"?")[0]
    for rule in sorted(rules, key=lambda rule: rule.priority):
        wanted = rule.conditions
        if (
            (not wanted.method or method.decode() in wanted.method)
            and (not wanted.host or any(plain_fits(each.lower().encode(), host) for each in wanted.host))
            and (not wanted.path or any(plain_fits(each.encode(), path) for each in wanted.path))
            and all(
                any(
                    plain_fits(each.lower().encode(), value.lower())
                    for each in values
                    for value in header(name.lower().encode())
                )
                for name, values in wanted.header
            )
        ):
            return str(rule.priority)
    return "default"


def words(alphabet: Sequence[str], size: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(alphabet), max_size=size).map("".join)


def several(value: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(value, max_size=3).map(tuple)


hosts = words(["a.", "B.", "example", "example", ".org", ".org"], 4)
paths = words(["/", "a", "/api", "/img/", "b"], 4)
host_patterns = hosts | words(["*", "*.", "?", "a.", "B", ".", "example", ".org"], 4)
path_patterns = paths | words(["*", "/*", "?", "/", "a", "/api", "/img/"], 4)
header_values = st.lists(words(["a", "B", "*", "?"], 3), min_size=1, max_size=2).map(tuple)
conditions = st.builds(
    Conditions,
    path=several(path_patterns),
    host=several(host_patterns),
    method=several(st.sampled_from(["GET", "POST"])),
    header=st.lists(st.tuples(st.sampled_from(["X-One", "x-two"]), header_values), max_size=1).map(tuple),
)
rule_lists = st.lists(
    st.builds(RuleSpec, st.integers(1, 50000), conditions, st.just(DEFAULT)),
    max_size=4 * FEW_RULES,  # enough for several rules to be filed by path under one host
    unique_by=lambda rule: rule.priority,
)
requests = st.lists(
    st.tuples(
        st.sampled_from([b"GET", b"POST", b"PUT"]),
        hosts.map(str.encode) | hosts.map(lambda host: f"{host}:8080".encode()),
        paths.map(lambda path: f"/{path}".encode()) | paths.map(lambda path: f"{path}?a=/api".encode()),
        st.lists(words(["a", "b"], 2).map(str.encode), max_size=2),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(rule_lists, requests)
def test_the_compiled_table_equals_a_plain_reading(rules, some_requests) -> None:
    compiled = RuleTable(rules, DEFAULT)
    for method, host, path, values in some_requests:
        header = fields(x_one=values)
        wanted = plain_match(rules, method, host, path, header)
        assert compiled.match(method, host, path, header).label == wanted
        tried = compiled.explain(method, host, path, header)
        assert tried[-1] == Tried(wanted, "", b"")
        assert all(each.failed for each in tried[:-1])


def test_ten_thousand_rules_of_every_shape() -> None:
    shapes: list[Callable[[int], Conditions]] = [
        lambda n: Conditions(host=(f"h{n}.example.org",)),
        lambda n: Conditions(host=(f"*.s{n}.example.org",)),
        lambda n: Conditions(path=(f"/exact{n}",)),
        lambda n: Conditions(path=(f"/prefix{n}/*",)),
        lambda n: Conditions(host=("one.example.org",), path=(f"/one{n}/*",)),
    ]
    rules = [RuleSpec(n + 1, shapes[n % 5](n), DEFAULT) for n in range(10_000)]
    compiled = RuleTable(rules, DEFAULT)
    for n in (0, 5, 5000, 9995):
        asked = [
            (f"h{n}.example.org", "/"),
            (f"a.s{n + 1}.example.org", "/"),
            ("x", f"/exact{n + 2}"),
            ("x", f"/prefix{n + 3}/y"),
            ("one.example.org", f"/one{n + 4}/z"),
        ]
        for shape, (host, path) in enumerate(asked):
            assert compiled.match(b"GET", host.encode(), path.encode(), no_headers).label == str(n + shape + 1)


@pytest.mark.parametrize(
    ("weights", "draw", "name"),
    [
        ((1,), 0.99, "0"),
        ((999,), 0.0, "0"),
        ((90, 10), 0.0, "0"),
        ((90, 10), 0.8999, "0"),
        ((90, 10), 0.9, "1"),
        ((0, 10), 0.0, "1"),
        ((10, 0), 1 - 2**-53, "0"),
        ((0, 0), 0.5, None),
        ((0,), 0.5, None),
    ],
)
def test_weighted_draw(weights: tuple[int, ...], draw: float, name: str | None) -> None:
    groups = weigh(Forward(tuple(WeightedGroup(str(n), weight) for n, weight in enumerate(weights))))
    assert pick_group(groups, draw) == name


def test_the_greatest_draw_there_is_stays_inside() -> None:
    for weight in range(1, 1000):
        groups = weigh(Forward((WeightedGroup("a", 999), WeightedGroup("b", weight), WeightedGroup("c", 0))))
        assert pick_group(groups, 1 - 2**-53) == "b"


def test_weighted_draws_are_in_proportion() -> None:
    groups = weigh(Forward((WeightedGroup("a", 3), WeightedGroup("b", 0), WeightedGroup("c", 1))))
    assert Counter(pick_group(groups, n / 1000) for n in range(1000)) == {"a": 750, "c": 250}


PARAMETERS = st.lists(
    st.tuples(st.sampled_from(["a", "B", "*"]), st.sampled_from([("1",), ("2", "x"), ("*",), ("",)])),
    min_size=1,
    max_size=2,
).map(tuple)
CIDRS = st.sampled_from(["192.0.2.0/24", "192.0.2.128/25", "192.0.2.129/32", "0.0.0.0/0", "2001:db8::/32", "::/0"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.builds(
            Conditions,
            path=st.sampled_from([(), (), ("/x",)]),
            query=st.lists(PARAMETERS, max_size=2).map(tuple),
            source_ip=st.lists(CIDRS, max_size=2).map(tuple),
        ),
        min_size=FEW_RULES + 1,
        max_size=4 * FEW_RULES,
    ),
    st.sampled_from(
        ["192.0.2.1", "192.0.2.129", "::ffff:192.0.2.129", "203.0.113.1", "2001:db8::1", "/run/app.sock", ""]
    ),
    st.lists(st.sampled_from([b"a=1", b"A=2", b"b=X", b"b", b"c=", b""]), max_size=3).map(b"&".join),
)
def test_many_rules_on_query_and_source_equal_a_plain_reading(conditions, source: str, query: bytes) -> None:
    compiled = table(*conditions)
    for target in (b"/x?" + query, b"/y?" + query, b"/x"):
        asked = (b"GET", b"h", target, no_headers, source)
        assert compiled.match(*asked).label == compiled.explain(*asked)[-1].rule


def test_of_ten_thousand_rules_on_query_and_source_few_are_proved() -> None:
    by_tenant = [Conditions(query=((("tenant", (f"t{n}",)),),)) for n in range(5000)]
    by_source = [Conditions(source_ip=(f"10.{n >> 8}.{n & 255}.0/24",)) for n in range(5000)]
    compiled = table(*by_tenant, *by_source)
    [shelf] = compiled._by_host.find(b"h")
    [drawer] = shelf.drawers(b"/")
    assert sum(map(len, drawer.candidates(b"x=y&Tenant=T4999", "10.1.2.3"))) == 2
