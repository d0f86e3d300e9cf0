"""The DNS server as dig sees it, and as packets see it that no honest program would send."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.rrset
import pytest

from support import PenstockProcess, free_port
from support.dig import dig
from support.tools import need_tool

SERVICES = """\
network:
  vpc: {name: app-network, cidr: 10.0.0.0/16, dns: {domain: app.local}}
service_discovery:
  namespaces:
    - name: services
      type: private
      vpc: app-network
      routing_policy: weighted
      ttl: 45s
      services:
        - name: api
          dns_records: [{type: A, ttl: 17s}, {type: AAAA, ttl: 18s}, {type: SRV, ttl: 60s}]
          instances:
            - {id: i-1, ip: 10.0.1.10, port: 8080, weight: 3}
            - {id: i-2, ip: 10.0.1.11, port: 8081, weight: 1}
            - {id: i-6, ip: "2001:db8::6", port: 8080, weight: 2}
        - name: many
          routing_policy: multivalue
          instances: [MANY]
""".replace("MANY", ", ".join(f"{{ip: 10.0.2.{n}, port: 80}}" for n in range(1, 13)))


@dataclass
class Site:
    penstock: PenstockProcess
    port: int

    def metric(self, name: str) -> float:
        """The sum of a counter's series."""
        text = self.penstock.get("/metrics")[1].decode()
        return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)))


@contextmanager
def running(folder: Path, resolvers: str = "", others: str = "") -> Iterator[Site]:
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    file = folder / "penstock.yaml"
    file.write_text(f"{SERVICES}dns: {{listen: '127.0.0.1:{port}'{resolvers}}}\nadmin: {{listen: '{admin}'}}\n{others}")
    with PenstockProcess(file, admin=admin) as penstock:
        yield Site(penstock, port)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("dns")) as site:
        yield site


@pytest.mark.parametrize("zone", ["services.", "services.app.local."])
class TestNames:
    """Under the namespace's own name, and under its network's domain."""

    @pytest.mark.parametrize("way", ["+notcp", "+tcp"])
    def test_addresses(self, site: Site, zone: str, way: str) -> None:
        four = dig(site.port, way, f"api.{zone}", "A")
        assert (four.status, "aa" in four.flags) == ("NOERROR", True)
        assert sorted(four.answer) == [f"api.{zone} 17 IN A 10.0.1.10", f"api.{zone} 17 IN A 10.0.1.11"]
        six = dig(site.port, way, f"api.{zone}", "AAAA")
        assert six.answer == [f"api.{zone} 18 IN AAAA 2001:db8::6"]

    @pytest.mark.parametrize("prefix", ["", "_http._tcp."])
    def test_srv_with_the_targets_addresses(self, site: Site, zone: str, prefix: str) -> None:
        found = dig(site.port, f"{prefix}api.{zone}", "SRV")
        assert sorted(found.answer) == [
            f"{prefix}api.{zone} 60 IN SRV 1 1 8081 i-2.api.{zone}",
            f"{prefix}api.{zone} 60 IN SRV 1 2 8080 i-6.api.{zone}",
            f"{prefix}api.{zone} 60 IN SRV 1 3 8080 i-1.api.{zone}",
        ]
        assert sorted(found.additional) == [
            f"i-1.api.{zone} 17 IN A 10.0.1.10",
            f"i-2.api.{zone} 17 IN A 10.0.1.11",
            f"i-6.api.{zone} 18 IN AAAA 2001:db8::6",
        ]
        assert dig(site.port, f"i-2.api.{zone}", "A").data == ["10.0.1.11"]

    def test_the_zone_itself(self, site: Site, zone: str) -> None:
        (soa,) = dig(site.port, zone, "SOA").answer
        assert re.fullmatch(rf"{zone} 45 IN SOA ns\.{zone} hostmaster\.{zone} \d+ 60 30 1209600 5", soa)
        assert dig(site.port, zone, "NS").answer == [f"{zone} 45 IN NS ns.{zone}"]
        assert dig(site.port, f"ns.{zone}", "A").data == ["127.0.0.1"]

    def test_any_is_one_set_of_records(self, site: Site, zone: str) -> None:
        found = dig(site.port, "+notcp", f"api.{zone}", "ANY")
        assert found.status == "NOERROR"
        assert {record.split(" ")[3] for record in found.answer} == {"A"}

    def test_what_is_not_there(self, site: Site, zone: str) -> None:
        missing = dig(site.port, f"nobody.{zone}", "A")
        assert (missing.status, missing.answer) == ("NXDOMAIN", [])
        (soa,) = missing.authority
        assert soa.startswith(f"{zone} 5 IN SOA "), "and that is to be remembered for 5 s"
        no_data = dig(site.port, f"api.{zone}", "MX")
        assert (no_data.status, no_data.answer, len(no_data.authority)) == ("NOERROR", [], 1)
        between = dig(site.port, f"_tcp.api.{zone}", "A")
        assert between.status == "NOERROR", "a name between two that exist exists"


def test_an_address_leads_back_to_its_instance(site: Site) -> None:
    assert dig(site.port, "-x", "10.0.1.10").answer == [
        "10.1.0.10.in-addr.arpa. 17 IN PTR i-1.api.services.",
    ]
    assert dig(site.port, "-x", "2001:db8::6").data == ["i-6.api.services."]
    assert dig(site.port, "-x", "10.0.1.99").status == "REFUSED", "not ours, and nobody to ask"


def test_case_does_not_matter_and_comes_back_as_it_was_sent(site: Site) -> None:
    assert dig(site.port, "aPi.SerVices.", "A").answer[0].startswith("aPi.SerVices. 17 IN A ")


def test_multivalue_gives_eight_and_everyone_a_turn(site: Site) -> None:
    answers = [dig(site.port, "many.services.", "A").data for _ in range(12)]
    assert {len(answer) for answer in answers} == {8}
    assert {answer[0] for answer in answers} == {f"10.0.2.{n}" for n in range(1, 13)}


def question(name: str, number: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">2H", 1, 1)


def test_ten_thousand_queries_are_shared_three_to_one_and_have_their_ttl(site: Site) -> None:
    firsts: Counter[str] = Counter()
    ttls: Counter[int] = Counter()
    with asking(site.port) as client:
        for start in range(0, 10_000, 50):
            for number in range(start, start + 50):
                client.send(question("api.services", number))
            for _ in range(50):
                packet = client.recv(4096)
                record = 12 + len("api.services") + 2 + 4  # header, question; then the first answer
                ttls[int.from_bytes(packet[record + 6 : record + 10])] += 1
                firsts[socket.inet_ntoa(packet[record + 12 : record + 16])] += 1
    assert set(firsts) == {"10.0.1.10", "10.0.1.11"}
    assert abs(firsts["10.0.1.10"] / 10_000 - 0.75) < 0.02
    assert ttls == {17: 10_000}


@contextmanager
def asking(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", port))
        yield client


def hostile(chance: random.Random) -> bytes:
    """Noise, or a good query with something wrong in it: cut off, bits turned, counts that lie, names that loop."""
    good = bytearray(question("api.services", chance.randrange(65536)))
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(0, 600))
        case 1:
            return bytes(good[: chance.randrange(len(good))])
        case 2:
            for _ in range(chance.randrange(1, 9)):
                good[chance.randrange(2, len(good))] ^= 1 << chance.randrange(8)
        case 3:
            good[4:12] = chance.randbytes(8)
        case _:
            good[12 : 12 + chance.randrange(1, 12)] = b"\xc0" + bytes([chance.randrange(64)])
    return bytes(good)


def test_two_thousand_packets_that_are_no_queries(site: Site) -> None:
    chance = random.Random(2026)
    errors = site.metric("penstock_dns_internal_errors_total")
    with asking(site.port) as client:
        for _ in range(2000 // 50):
            for _ in range(50):
                client.send(hostile(chance))
            client.send(question("api.services", 7))  # still there, and it has read all that came before
            while client.recv(4096)[:4] != b"\0\7\x85\0":
                pass
    assert site.metric("penstock_dns_internal_errors_total") == errors == 0
    assert site.metric("penstock_dns_dropped_total") + site.metric("penstock_dns_rejected_total") > 1000
    assert "Traceback" not in site.penstock.output()


def test_tcp_streams_that_are_no_queries(site: Site) -> None:
    chance = random.Random(2026)
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", site.port), timeout=5) as client:
            packet = hostile(chance)
            client.sendall(chance.choice([packet, len(packet).to_bytes(2) + packet, b"GET / HTTP/1.1\r\n\r\n"]))
            client.shutdown(socket.SHUT_WR)
            try:
                while client.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    assert dig(site.port, "+tcp", "api.services.", "A").status == "NOERROR"
    assert site.metric("penstock_dns_internal_errors_total") == 0


@dataclass
class Resolver:
    """Answers every question for an address with one record, and remembers what it was asked."""

    ttl: int
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[int]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=self._serve, args=(sock,))
            thread.start()
            try:
                yield sock.getsockname()[1]
            finally:
                with asking(sock.getsockname()[1]) as client:
                    client.send(b"")  # an empty datagram ends it
                thread.join()

    def _serve(self, sock: socket.socket) -> None:
        while True:
            packet, client = sock.recvfrom(4096)
            if not packet:
                return
            query = dns.message.from_wire(packet)
            self.asked.append(query.question[0].name.to_text())
            answer = dns.message.make_response(query, recursion_available=True)
            answer.answer.append(dns.rrset.from_text(query.question[0].name, self.ttl, "IN", "A", "192.0.2.1"))
            sock.sendto(answer.to_wire(), client)


def test_other_names_are_forwarded_and_kept_as_long_as_they_say(tmp_path: Path) -> None:
    resolver = Resolver(ttl=2)
    with resolver.serving() as port, running(tmp_path, f", resolvers: ['127.0.0.1:{port}']") as site:
        first = dig(site.port, "www.example.org.", "A")
        assert first.answer == ["www.example.org. 2 IN A 192.0.2.1"]
        assert {"qr", "rd", "ra"} <= set(first.flags)
        assert "aa" not in first.flags, "we are no authority for it"
        asked_at = time.monotonic()
        again = dig(site.port, "+tcp", "WWW.example.org.", "A")
        assert again.data == ["192.0.2.1"]
        if time.monotonic() - asked_at < 1:  # else this machine is so slow that the record may have expired
            assert [name.lower() for name in resolver.asked] == ["www.example.org."]
            assert again.ttls <= {1, 2}
        deadline = time.monotonic() + 10
        while len(resolver.asked) < 2:
            assert time.monotonic() < deadline, "it was never asked again"
            left = dig(site.port, "www.example.org.", "A").ttls
            assert left <= {0, 1, 2}
        assert time.monotonic() - asked_at > 1, "it was asked again before the record had expired"
        assert dig(site.port, "api.services.", "A").data
        assert all(name.lower() == "www.example.org." for name in resolver.asked), "our own names are not asked"
        assert site.metric("penstock_dns_cache_hits_total") >= 1


@pytest.mark.parametrize("workers", [1, 2])
def test_over_tls_and_https_by_the_certificates_of_the_file(tmp_path: Path, workers: int) -> None:
    kdig = need_tool("kdig", package="knot-dnsutils")
    tls, https = free_port(), free_port()
    more = (
        f", tls: {{listen: '127.0.0.1:{tls}', certificate: own}}"
        f", https: {{listen: '127.0.0.1:{https}', certificate: own}}"
        ", cookies: true, response_rate_limit: {responses_per_second: 1000}, query_log: {file: dns.log}"
    )
    others = f"workers: {workers}\ncertificates: [{{name: own, self_signed: localhost}}]\n"
    with running(tmp_path, more, others) as site:
        for port, way in ((tls, "+tls"), (https, "+https"), (https, "+https-get")):
            command = [kdig, "@127.0.0.1", "-p", str(port), way, "+short", "+retry=0", "api.services.", "A"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
            assert sorted(done.stdout.split()) == ["10.0.1.10", "10.0.1.11"], way
        assert "(good)" in dig(site.port, "api.services.", "A").printed, "a cookie that dig believes"
        assert site.metric("penstock_dns_queries_total") == 4
    lines = (tmp_path / "dns.log").read_text().splitlines()
    assert [line.count('"name":"api.services."') for line in lines] == [1] * 4, "whoever ends writes what he has"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_moved_query_log_is_begun_anew(tmp_path: Path, workers: int) -> None:
    log, moved = tmp_path / "dns.log", tmp_path / "dns.log.1"
    with running(tmp_path, ", query_log: {file: dns.log}", f"workers: {workers}") as site:
        assert dig(site.port, "api.services.", "A").data
        log.rename(moved)
        site.penstock.signal(signal.SIGUSR1)
        while not log.exists():
            time.sleep(0.01)
        # Each worker opens it for itself, and the first to do so made the file: only what all have written tells.
        while not log.read_text():
            assert dig(site.port, "api.services.", "SRV").data
    assert '"type":"A"' in moved.read_text()
    assert {json.loads(line)["type"] for line in log.read_text().splitlines()} == {"SRV"}
