"""DNS over TLS and HTTPS, cookies, limits and access lists, by the clients that people use."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import dns.edns
import dns.message
import dns.rcode
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded

from penstock.dns import https, tcp
from penstock.dns.server import DnsServer
from penstock.dns.transport_specs import QueryLogSpec, ResponseRateSpec, SecureListenerSpec, TransportSpec
from penstock.proxy.tls import server_context
from support import dns_packets as packets
from support.certificates import issue
from support.dns_net import LOCAL, PATIENCE, framed, over_tcp, over_udp, read_framed, serving, udp_client
from support.loop import run
from support.tools import need_tool

ALPN = {"TLS": ("dot",), "HTTPS": ("h2", "http/1.1")}


def contexts(identity: Hashable, protocol: str) -> ssl.SSLContext:
    assert identity == "one"
    return server_context((issue("dns.example.org"),), "ELBSecurityPolicy-TLS13-1-2-Res-2021-06", ALPN[protocol])


SECURE = (SecureListenerSpec("127.0.0.1", 0, "TLS", "one"), SecureListenerSpec("127.0.0.1", 0, "HTTPS", "one"))


def spec(**transport: Any) -> Any:
    return packets.spec(listen=LOCAL, transport=TransportSpec(**transport))


def trusting(*alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


def ports(server: DnsServer) -> dict[str, int]:
    return {protocol: port for _, port, protocol in server.bound_secure}


async def tool(*command: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=20
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def with_server(scenario: Callable[[DnsServer], Any], **transport: Any) -> None:
    async def inner() -> None:
        async with serving(spec(**transport), contexts=contexts) as server:
            await scenario(server)

    run(inner())


class TestTls:
    @pytest.mark.parametrize("case", packets.CASES, ids=lambda case: case.name)
    def test_every_row_of_the_table(self, case: packets.Case) -> None:
        async def scenario(server: DnsServer) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports(server)["TLS"], ssl=trusting("dot"))
            try:
                writer.write(framed(case.packet))
                try:
                    reply = await read_framed(reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    reply = None
                packets.check(case, reply, transport="tcp")
            finally:
                writer.transport.abort()

        with_server(scenario, secure=SECURE)

    def test_kdig(self) -> None:
        kdig = need_tool("kdig", package="knot-dnsutils")

        async def scenario(server: DnsServer) -> None:
            port = str(ports(server)["TLS"])
            printed = await tool(kdig, "@127.0.0.1", "-p", port, "+tls", "+noall", "+answer", "api.corp.internal", "A")
            assert sorted(line.split()[-1] for line in printed.splitlines()) == ["10.0.1.10", "10.0.1.11"]
            assert server.counters.queries["tls", "A"] == 1

        with_server(scenario, secure=SECURE)

    def test_who_speaks_no_tls_is_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT", 0.05)

        async def scenario(server: DnsServer) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports(server)["TLS"])
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            while not server.counters.tls_handshakes_failed:
                await asyncio.sleep(0)
            assert server.counters.tcp_active == 0

        with_server(scenario, secure=SECURE)

    def test_silence_in_the_handshake_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tcp, "HANDSHAKE_TIMEOUT", 0.05)

        async def scenario(server: DnsServer) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports(server)["TLS"])
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()

        with_server(scenario, secure=SECURE)

    def test_a_server_that_stops_does_not_wait_for_handshakes(self) -> None:
        async def scenario(server: DnsServer) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports(server)["TLS"])
            while not server.counters.tcp_active:
                await asyncio.sleep(0)
            await server.stop(0)
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()

        with_server(scenario, secure=SECURE)

    def test_a_bad_certificate_opens_nothing(self) -> None:
        def bad(_: Hashable, __: str) -> ssl.SSLContext:
            raise ValueError("no good")

        async def inner() -> None:
            async with serving(packets.spec(listen=LOCAL), contexts=bad) as server:
                with pytest.raises(ValueError, match="no good"):
                    await server.prepare(spec(secure=SECURE))
                assert server.bound_secure == []

        run(inner())

    def test_a_reload_keeps_the_connection_and_takes_a_removed_listener_away(self) -> None:
        async def scenario(server: DnsServer) -> None:
            port = ports(server)["TLS"]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting("dot"))
            (await server.prepare(spec(secure=SECURE))).commit()
            assert ports(server)["TLS"] == port
            (await server.prepare(spec())).commit()
            assert server.bound_secure == []
            writer.write(framed(packets.query()))
            assert (await read_framed(reader))[:2] == b"\x12\x34"
            writer.close()
            with pytest.raises(OSError, match="refused"):
                await asyncio.open_connection("127.0.0.1", port)

        with_server(scenario, secure=SECURE)


def query_string(packet: bytes) -> str:
    return base64.urlsafe_b64encode(packet).rstrip(b"=").decode()


class TestHttps:
    @pytest.mark.parametrize(
        "sent",
        [b"Content-Length: 29\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n"],
        ids=["half", "nonsense"],
    )
    def test_a_body_that_does_not_come_is_no_traceback(self, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
        async def scenario(server: DnsServer) -> None:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", ports(server)["HTTPS"], ssl=trusting("http/1.1")
            )
            writer.write(
                b"POST /dns-query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dns-message\r\n" + sent
            )
            if b"chunked" in sent:
                assert (await reader.readline()).split()[1] == b"400"
            else:
                await asyncio.sleep(0.05)  # its task waits for the rest
            writer.transport.abort()
            while server.counters.tcp_active:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)

        with_server(scenario, secure=SECURE)
        assert "Traceback" not in caplog.text

    @pytest.mark.parametrize("method", ["+https", "+https-get"])
    def test_kdig(self, method: str) -> None:
        kdig = need_tool("kdig", package="knot-dnsutils")

        async def scenario(server: DnsServer) -> None:
            port = str(ports(server)["HTTPS"])
            printed = await tool(
                kdig, "@127.0.0.1", "-p", port, method, "+noall", "+answer", "+retry=0", "api.corp.internal", "A"
            )
            assert sorted(line.split()[-1] for line in printed.splitlines()) == ["10.0.1.10", "10.0.1.11"]
            assert server.counters.queries["https", "A"] == 1

        with_server(scenario, secure=SECURE)

    @pytest.mark.parametrize("version", ["--http1.1", "--http2"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_curl(self, version: str, method: str, tmp_path: Path) -> None:
        curl = need_tool("curl", package="curl")
        (tmp_path / "query").write_bytes(packets.query())

        async def scenario(server: DnsServer) -> None:
            url = f"https://127.0.0.1:{ports(server)['HTTPS']}/dns-query"
            what = [f"{url}?dns={query_string(packets.query())}"]
            if method == "POST":
                what = [url, "--data-binary", f"@{tmp_path / 'query'}", "-H", "Content-Type: application/dns-message"]
            head = await tool(curl, "-sSk", version, "-D", "-", "-o", str(tmp_path / "reply"), *what)
            lines = [line.lower() for line in head.splitlines()]
            assert lines[0].split()[:2] == ["http/2" if version == "--http2" else "http/1.1", "200"]
            assert "content-type: application/dns-message" in lines
            assert "cache-control: max-age=60" in lines
            reply = dns.message.from_wire((tmp_path / "reply").read_bytes())
            assert len(reply.answer[0]) == 2

        with_server(scenario, secure=SECURE)

    @pytest.mark.parametrize("version", ["--http1.1", "--http2"])
    @pytest.mark.parametrize(
        ("arguments", "path", "status"),
        [
            ([], "/other", 404),
            ([], "/dns-query", 400),
            ([], "/dns-query?dns=!!!", 400),
            ([], "/dns-query?dns=AAAA", 400),
            (["-X", "DELETE"], "/dns-query", 405),
            (["--data", "x=1"], "/dns-query", 415),
            ([], "/dns-query?dns=" + "A" * 8190, 414),
        ],
    )
    def test_what_is_no_question_is_told_so(self, version: str, arguments: list[str], path: str, status: int) -> None:
        if status == 414 and version == "--http1.1":
            status = 400  # aiohttp refuses the line itself
        curl = need_tool("curl", package="curl")

        async def scenario(server: DnsServer) -> None:
            url = f"https://127.0.0.1:{ports(server)['HTTPS']}{path}"
            assert await tool(curl, "-sk", version, "-o", "/dev/null", "-w", "%{http_code}", *arguments, url) == str(
                status
            )

        with_server(scenario, secure=SECURE)

    def test_curl_resolves_names_with_it(self) -> None:
        curl = need_tool("curl", package="curl")

        async def scenario(server: DnsServer) -> None:
            doh = f"https://127.0.0.1:{ports(server)['HTTPS']}/dns-query"
            command = [
                curl,
                "-s",
                "--doh-insecure",
                "--doh-url",
                doh,
                "--max-time",
                "2",
                "-v",
                "http://nope.corp.internal/",
            ]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, check=False, timeout=20
            )
            assert done.returncode == 6, "could not resolve host: NXDOMAIN came over HTTPS"
            assert server.counters.responses["NXDOMAIN"] >= 1

        with_server(scenario, secure=SECURE)

    def test_an_answer_longer_than_the_window_waits_for_it(self) -> None:
        async def scenario(server: DnsServer) -> None:
            client = H2Connection(H2Configuration(header_encoding=None))
            reader, writer = await asyncio.open_connection("127.0.0.1", ports(server)["HTTPS"], ssl=trusting("h2"))
            client.initiate_connection()
            client.update_settings({4: 100})  # SETTINGS_INITIAL_WINDOW_SIZE
            target = f"/dns-query?dns={query_string(packets.query('big.corp.internal'))}".encode()
            headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", target)]
            client.send_headers(1, headers, end_stream=True)
            body, sizes, ended = b"", [], False
            while not ended:
                writer.write(client.data_to_send())
                data = await asyncio.wait_for(reader.read(65536), PATIENCE)
                assert data
                for event in client.receive_data(data):
                    if isinstance(event, ResponseReceived):
                        assert dict(event.headers)[b":status"] == b"200"
                    elif isinstance(event, DataReceived):
                        body += event.data
                        sizes.append(len(event.data))
                        if not event.stream_ended:
                            client.increment_flow_control_window(len(event.data), 1)
                    elif isinstance(event, StreamEnded):
                        ended = True
            assert sum(map(len, dns.message.from_wire(body).answer)) == 100
            assert max(sizes) <= 100
            writer.close()

        with_server(scenario, secure=SECURE)

    def test_who_takes_back_what_he_asked_is_sent_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(https, "RESETS", 5)

        async def scenario(server: DnsServer) -> None:
            client = H2Connection(H2Configuration(header_encoding=None))
            reader, writer = await asyncio.open_connection("127.0.0.1", ports(server)["HTTPS"], ssl=trusting("h2"))
            client.initiate_connection()
            headers = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", b"/dns-query")]
            for stream in range(1, 21, 2):
                client.send_headers(stream, headers)
                client.reset_stream(stream)
            writer.write(client.data_to_send())
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()

        with_server(scenario, secure=SECURE)


COOKIE = bytes(range(8))
SECRET = bytes(range(16))


def cookie_of(reply: bytes) -> bytes:
    for option in dns.message.from_wire(reply).options:
        if isinstance(option, dns.edns.CookieOption):
            return option.client + option.server
    return b""


class TestCookies:
    @pytest.mark.parametrize("over", [over_udp, over_tcp])
    def test_a_client_learns_its_cookie(self, over: Any) -> None:
        async def scenario(server: DnsServer) -> None:
            for _ in range(2):  # the second is remembered whole
                reply = await over(server.bound[0], packets.edns_query(options=packets.option(10, COOKIE)))
                assert cookie_of(reply)[:8] == COOKIE
                assert len(cookie_of(reply)) == 24
            again = packets.edns_query(options=packets.option(10, cookie_of(reply)))
            assert cookie_of(await over(server.bound[0], again)) == cookie_of(reply)
            plain = await over(server.bound[0], packets.edns_query())
            assert dns.message.from_wire(plain).options == ()

        with_server(scenario, cookie_secret=SECRET)

    def test_dig(self) -> None:
        dig = need_tool("dig", package="bind9-dnsutils")

        async def scenario(server: DnsServer) -> None:
            printed = await tool(
                dig, "-r", "@127.0.0.1", "-p", str(server.bound[0][1]), "api.corp.internal", "+tries=1"
            )
            assert "(good)" in printed

        with_server(scenario, cookie_secret=SECRET)

    @pytest.mark.parametrize("over", [over_udp, over_tcp])
    def test_who_asks_for_a_cookie_alone_gets_it(self, over: Any) -> None:
        """F04 with cookies on: RFC 7873 section 5.4."""

        def asking(cookie: bytes) -> bytes:
            return packets.header(counts=(0, 0, 0, 1)) + packets.opt(options=packets.option(10, cookie))

        async def scenario(server: DnsServer) -> None:
            first = await over(server.bound[0], asking(COOKIE))
            got = cookie_of(first)
            assert first == bytes.fromhex("123481000000000000000001 00002904d000000000001c 000a0018") + got
            assert (got[:8], len(got)) == (COOKIE, 24)
            assert await over(server.bound[0], asking(got)) == first
            forged = await over(server.bound[0], asking(got[:-1] + bytes((got[-1] ^ 1,))))
            assert forged[:16] == bytes.fromhex("123481070000000000000001 00002904")
            assert dns.message.from_wire(forged).rcode() == dns.rcode.BADCOOKIE
            assert cookie_of(forged)[:8] == COOKIE
            for malformed in (asking(COOKIE[:7]), packets.header(counts=(0, 0, 0, 1)) + packets.opt()):
                assert await over(server.bound[0], malformed) == bytes.fromhex("123481010000000000000000")
            assert server.counters.responses == {"NOERROR": 2, "BADCOOKIE": 1, "FORMERR": 2}

        with_server(scenario, cookie_secret=SECRET)

    @pytest.mark.parametrize("size", [0, 7, 9, 15, 41])
    def test_a_malformed_one_is_a_format_error(self, size: int) -> None:
        async def scenario(server: DnsServer) -> None:
            reply = await over_udp(server.bound[0], packets.edns_query(options=packets.option(10, bytes(size))))
            assert dns.message.from_wire(reply).rcode() == dns.rcode.FORMERR
            assert server.counters.rejected["cookie"] == 1

        with_server(scenario, cookie_secret=SECRET)

    def test_it_is_within_the_limit_of_the_client(self) -> None:
        async def scenario(server: DnsServer) -> None:
            for size in (512, 1232, 4096):
                packet = packets.edns_query("big.corp.internal", size=size, options=packets.option(10, COOKIE))
                reply = await over_udp(server.bound[0], packet)
                assert len(reply) <= min(size, 1232)
                assert cookie_of(reply)
                assert dns.message.from_wire(reply).flags & dns.flags.TC

        with_server(scenario, cookie_secret=SECRET)

    @pytest.mark.parametrize(
        "case", [case for case in packets.CASES if "cookie" not in case.name], ids=lambda case: case.name
    )
    def test_every_row_of_the_table_as_without(self, case: packets.Case) -> None:
        async def scenario(server: DnsServer) -> None:
            if case.rcode is not None:
                packets.check(case, await over_udp(server.bound[0], case.packet))

        with_server(scenario, cookie_secret=SECRET, rate=ResponseRateSpec(1000), allow=("127.0.0.0/8",), top_names=10)


class TestLimits:
    def test_equal_answers_are_limited_and_slip(self) -> None:
        async def scenario(server: DnsServer) -> None:
            async with udp_client(server.bound[0]) as (send, replies):
                for _ in range(9):
                    send(packets.query())
                got = [dns.message.from_wire(await asyncio.wait_for(replies.get(), PATIENCE)) for _ in range(6)]
                whole = [reply for reply in got if not reply.flags & dns.flags.TC]
                assert (len(whole), len(got) - len(whole)) == (3, 3)
                refused = server.counters.refused
                assert (refused["response_rate"], refused["response_rate_slip"]) == (3, 3)
            over = await over_tcp(server.bound[0], packets.query())
            assert over is not None
            assert dns.message.from_wire(over).answer

        with_server(scenario, rate=ResponseRateSpec(3))

    def test_who_shows_a_cookie_is_not_limited(self) -> None:
        async def scenario(server: DnsServer) -> None:
            reply = await over_udp(server.bound[0], packets.edns_query(options=packets.option(10, COOKIE)))
            packet = packets.edns_query(options=packets.option(10, cookie_of(reply)))
            for _ in range(20):
                assert dns.message.from_wire(await over_udp(server.bound[0], packet)).answer

        with_server(scenario, rate=ResponseRateSpec(1), cookie_secret=SECRET)

    @pytest.mark.parametrize("over", [over_udp, over_tcp])
    def test_only_some_may_ask(self, over: Any) -> None:
        async def scenario(server: DnsServer) -> None:
            reply = dns.message.from_wire(await over(server.bound[0], packets.edns_query()))
            assert reply.rcode() == dns.rcode.REFUSED
            assert [option.code for option in reply.options] == [18]
            assert server.counters.refused["acl"] == 1
            (await server.prepare(spec(allow=("127.0.0.1/32",)))).commit()
            assert dns.message.from_wire(await over(server.bound[0], packets.edns_query())).answer

        with_server(scenario, allow=("192.0.2.0/24", "2001:db8::/32"))


def test_the_query_log_and_top_names(tmp_path: Path) -> None:
    path = tmp_path / "queries.log"

    async def scenario(server: DnsServer) -> None:
        for _ in range(4):
            await over_udp(server.bound[0], packets.query())
        await over_tcp(server.bound[0], packets.edns_query("nope.corp.internal"))
        assert server.top_names is not None
        assert [(found.name, found.times) for found in server.top_names.most(1)] == [
            (packets.wire_name("api.corp.internal"), 4)
        ]

    with_server(scenario, query_log=QueryLogSpec(str(path), sample=0.5), top_names=10)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 2
    assert {line["name"] for line in lines} == {"api.corp.internal."}
    assert lines[0]["rcode"] == "NOERROR"
    assert (lines[0]["client"], lines[0]["transport"], lines[0]["type"]) == ("127.0.0.1", "udp", "A")


def test_a_query_log_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    async def scenario(server: DnsServer) -> None:
        with pytest.raises(ValueError, match=r"cannot write the query log .*: No such file or directory"):
            await server.prepare(spec(query_log=QueryLogSpec(str(tmp_path / "nowhere" / "queries.log"))))

    with_server(scenario)


def test_a_new_certificate_leaves_limits_as_they_are() -> None:
    async def scenario(server: DnsServer) -> None:
        async with udp_client(server.bound[0]) as (send, replies):
            for _ in range(15):  # so many too many that the next seconds cannot make up for them
                send(packets.query())
                await asyncio.wait_for(replies.get(), PATIENCE)
            (await server.prepare(spec(rate=ResponseRateSpec(1, slip=1), secure=SECURE))).commit()
            send(packets.query())
            assert int.from_bytes((await asyncio.wait_for(replies.get(), PATIENCE))[2:4]) & 0x0200

    with_server(scenario, rate=ResponseRateSpec(1, slip=1))
