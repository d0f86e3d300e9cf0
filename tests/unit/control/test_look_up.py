"""Resolving targets' names: against a resolver that says what the test wants, and against answers made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from penstock.control.look_up import DnsLookUp, addresses_in, system_resolvers
from penstock.proxy.names import Answer, Denied, Failed
from support import run
from support.dns_net import resolving

HOST = "app.example.org"


def reply(query: dns.message.Message, *lines: str, rcode: str = "NOERROR") -> bytes:
    made = dns.message.make_response(query)
    made.set_rcode(dns.rcode.from_text(rcode))
    made.answer = [dns.rrset.from_text(*line.split()) for line in lines]
    return made.to_wire()


def looked_up(*lines: str, rcode: str = "NOERROR") -> Answer:
    """What comes of a resolver that knows these records, by the type that is asked for."""

    def script(query: dns.message.Message, _: str) -> Iterable[bytes]:
        asked = dns.rdatatype.to_text(query.question[0].rdtype)
        yield reply(query, *(line for line in lines if line.split()[3] in (asked, "CNAME")), rcode=rcode)

    async def main() -> Answer:
        async with resolving(script) as resolver:
            look_up = DnsLookUp()
            look_up.use((resolver.address,))
            try:
                return await look_up(HOST)
            finally:
                await look_up.stop()

    return run(main())


def test_ipv4_addresses_come_first_and_alone() -> None:
    v4 = [f"{HOST}. 60 IN A 192.0.2.{number}" for number in (1, 2)]
    assert looked_up(*v4, f"{HOST}. 5 IN AAAA 2001:db8::1") == Answer(("192.0.2.1", "192.0.2.2"), 60)


def test_ipv6_addresses_where_there_are_no_others() -> None:
    assert looked_up(f"{HOST}. 5 IN AAAA 2001:db8:0::1") == Answer(("2001:db8::1",), 5)


def test_the_smallest_ttl_of_a_chain_counts() -> None:
    """86400 on the alias and 10 on the address, or the other way round (envoy #28925)."""
    chain = [f"{HOST}. 86400 IN CNAME lb.example.net.", "lb.example.net. 10 IN A 192.0.2.1"]
    assert looked_up(*chain) == Answer(("192.0.2.1",), 10)
    chain = [f"{HOST}. 10 IN CNAME LB.example.net.", "lb.example.net. 86400 IN A 192.0.2.1"]
    assert looked_up(*chain) == Answer(("192.0.2.1",), 10)


def test_addresses_of_others_are_not_taken() -> None:
    assert looked_up(f"{HOST}. 60 IN A 192.0.2.1", "evil.example.net. 60 IN A 198.51.100.1").addresses == ("192.0.2.1",)


def test_a_circle_of_aliases_has_no_address() -> None:
    circle = [f"{HOST}. 60 IN CNAME b.example.org.", f"b.example.org. 60 IN CNAME {HOST}."]
    assert looked_up(*circle).addresses == ()


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(Denied):
        looked_up(rcode="NXDOMAIN")


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED"])
def test_a_resolver_that_cannot_say(rcode: str) -> None:
    with pytest.raises(Failed, match="no resolver has an answer"):
        looked_up(rcode=rcode)


def test_an_answer_that_cannot_be_read() -> None:
    with pytest.raises(Failed, match="cannot be read"):
        addresses_in(b"\0\0\x81\x80\0\1\0\1\0\0\0\0\3app", HOST, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# by hand\nnameserver 192.0.2.53\nsearch example.org\n", (("192.0.2.53", 53),)),
        ("nameserver 2001:db8::53 \nnameserver what\nnameserver\n", (("2001:db8::53", 53),)),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6)), tuple((f"192.0.2.{n}", 53) for n in (1, 2, 3))),
        ("", (("127.0.0.1", 53),)),
        (None, (("127.0.0.1", 53),)),
    ],
)
def test_the_machines_own_resolvers(tmp_path: Path, text: str | None, found: object) -> None:
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text)
    assert system_resolvers(path) == found
