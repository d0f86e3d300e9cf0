"""HTTP/2 towards clients and towards targets."""

from __future__ import annotations

import asyncio

import pytest
from hyperframe.frame import DataFrame

from support import Exchange, Origin, hang, reset, response, run
from support.balancer import balancing
from support.http2 import GET, Client, Headers, Http2Origin, reply


def headers(*more: tuple[bytes, bytes], **pseudo: bytes) -> Headers:
    """GET / with pseudo-headers replaced (None drops one) and fields added."""
    changed = {b":" + name.encode(): value for name, value in pseudo.items()}
    return [(name, changed.get(name, value)) for name, value in GET] + list(more)


def test_request_and_answer() -> None:
    async def main() -> None:
        async with Origin(response(b"hello", headers=[("X-Answer", "1")])) as origin, balancing(origin.port) as lb:
            async with Client(lb.port) as client:
                answer = await client.ask(
                    headers((b"x-a", b"1"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), path=b"/p?q")
                )
            assert (answer.status, answer.body) == (b"200", b"hello")
            assert (b"x-answer", b"1") in answer.headers
            seen = origin.requests[0]
            assert seen.line == b"GET /p?q HTTP/1.1"
            assert seen.value(b"Host") == b"example.org"
            assert seen.value(b"Cookie") == b"a=1; b=2"
            assert seen.value(b"X-Forwarded-For") == b"127.0.0.1"
            assert (lb.log[0].status, lb.log[0].uri) == (200, b"/p?q")

    run(main())


def test_streams_are_answered_as_they_finish() -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.1)
        exchange.writer.write(response(b"slow"))

    async def main() -> None:
        async with Origin(slow, response(b"fast")) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            first = client.send(GET)
            while not origin.requests:
                await asyncio.sleep(0.001)
            second = await client.ask(GET)
            assert second.body == b"fast"
            assert not client.answers[first].ended
            assert (await client.answer(first)).body == b"slow"
            assert lb.listener.counters.accepted == 1

    run(main())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, 40_000])
def test_bodies(size: int, known: bool) -> None:
    body = bytes(size)

    async def echo(exchange: Exchange) -> None:
        exchange.writer.write(response(exchange.request.body))

    async def main() -> None:
        async with Origin(echo) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            more = ((b"content-length", b"%d" % size),) if known else ()
            pieces = [body[i : i + 16384] for i in range(0, size, 16384)] or [b""]
            answer = await client.ask(headers(*more, method=b"POST"), pieces)
            assert answer.body == body
            assert origin.requests[0].body == body
            assert (origin.requests[0].value(b"Transfer-Encoding") is None) == known

    run(main())


def test_an_answer_larger_than_any_window_arrives_whole() -> None:
    body = bytes(range(256)) * 20_000

    async def main() -> None:
        async with Origin(response(body)) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            assert (await client.ask(GET)).body == body

    run(main())


def test_a_client_that_opens_no_window_holds_the_target_back() -> None:
    async def main() -> None:
        async with Origin(response(bytes(20_000_000))) as origin, balancing(origin.port) as lb:
            async with Client(lb.port) as client:
                client.send(GET)
                for _ in range(50):
                    await asyncio.sleep(0.005)
                assert lb.group().targets[0].counters.bytes_in < 8_000_000
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert lb.group().targets[0].in_flight == 0
            assert lb.log[-1].reason == "client_closed"

    run(main())


def test_a_connection_that_a_slow_client_had_stopped_is_read_from_for_the_next() -> None:
    """The last piece of an answer may be what its client's window has no room for."""

    async def sized(exchange: Exchange) -> None:
        exchange.writer.write(response(bytes(int(exchange.request.line.split(b" ")[1][1:]))))

    async def main() -> None:
        async with Origin(sized) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            for size in range(132_000, 150_000, 3_000):  # a window and what is held for a client, and little more
                async with asyncio.timeout(5):
                    assert len((await client.ask(headers(path=b"/%d" % size))).body) == size
            assert lb.group().targets[0].counters.connects == 1

    run(main())


REFUSED: dict[str, tuple[Headers, bytes | None]] = {
    "H01 line end in a value": (headers((b"x", b"a\r\nHost: evil")), None),
    "H01 NUL in a value": (headers((b"x", b"a\x00b")), None),
    "H01 upper case": (headers((b"X-Upper", b"1")), None),
    "H01 space in the path": (headers(path=b"/a b"), b"400"),
    "H01 line end in the path": (headers(path=b"/a\r\nX: y"), None),
    "H01 line end in the method": (headers(method=b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET"), None),
    "H02 transfer-encoding": (headers((b"transfer-encoding", b"chunked")), None),
    "H02 connection": (headers((b"connection", b"close")), None),
    "H02 te": (headers((b"te", b"gzip")), None),
    "H04 path twice": ([*GET[:], (b":path", b"/b")], None),
    "H04 no path": ([pair for pair in GET if pair[0] != b":path"], None),
    "H04 pseudo-header after a field": ([*GET[:3], (b"x", b"1"), GET[3]], None),
    "H04 unknown pseudo-header": ([(b":other", b"1"), *GET], None),
    "H05 authority and host differ": (headers((b"host", b"other.example.org")), None),
    "H06 empty path": (headers(path=b""), None),
    "H06 relative path": (headers(path=b"a"), b"400"),
    "fragment": (headers(path=b"/a#b"), b"400"),
    "bad authority": (headers(authority=b"a/b"), b"400"),
    "TRACE": (headers(method=b"TRACE"), b"405"),
    "CONNECT": ([(b":method", b"CONNECT"), (b":authority", b"a:443")], None),
    "unknown protocol": ([(b":protocol", b"other"), *headers(method=b"CONNECT")], b"501"),
    "101 fields": (headers(*[(b"x-%d" % i, b"1") for i in range(101)]), b"431"),
    "31 forwarders": (headers((b"x-forwarded-for", b", ".join([b"192.0.2.1"] * 31))), b"463"),
    "unknown expectation": (headers((b"expect", b"200-ok")), b"417"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """With a status where the frames were right, by reset or GOAWAY where they were not; never seen by the origin."""
    sent, status = REFUSED[name]

    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            answer = await client.ask(sent)
            if status is None:
                assert answer.reset is not None or client.goaway is not None or answer.status[:1] == b"4", answer
            else:
                assert answer.status == status
            assert not origin.requests

    run(main())


def test_h03_a_body_longer_than_it_said_does_not_reach_the_origin_whole() -> None:
    async def main() -> None:
        async with Origin(response()) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            answer = await client.ask(headers((b"content-length", b"3"), method=b"POST"), [b"hello"])
            assert answer.status == b"400"
            assert lb.log[0].reason == "bad_content_length"
            assert not [request for request in origin.requests if request.body == b"hello"]

    run(main())


def test_an_upload_that_ends_early_is_an_error_of_its_stream_alone() -> None:
    """curl ends an upload so when the answer comes first; what shares the connection must not suffer."""
    going_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
            await going_on.wait()
            writer.write(response(b"slow"))
        else:
            writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, balancing(port) as lb, Client(lb.port) as client:
            other = client.send(GET)
            upload = client.send(headers((b"content-length", b"9"), method=b"POST"), [b"abc"], end=False)
            early = await client.answer(upload)
            assert (early.status, early.body) == (b"413", b"big")
            # The library would not end it so: nine bytes were promised.
            client.writer.write(DataFrame(upload, b"d", flags=["END_STREAM"]).serialize())
            cut = client.send(headers((b"content-length", b"9"), method=b"POST"), [b"abc"], end=False)
            client.writer.write(DataFrame(cut, b"", flags=["END_STREAM"]).serialize())
            assert (await client.answer(cut)).status == b"400"
            going_on.set()
            assert (await client.answer(other)).body == b"slow"
            assert not lb.listener.counters.failed["bad_http2"]
            assert [record.reason for record in lb.log] == ["", "bad_content_length", ""]

    run(main())


def test_h08_rapid_reset_ends_the_connection() -> None:
    async def main() -> None:
        async with Origin(hang) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            for _ in range(130):
                client.frames.reset_stream(client.send(GET))
            client.flush()
            while not client.closed:
                await client.receive()
            assert client.goaway in {11, None}, "ENHANCE_YOUR_CALM, unless the reset that our haste earned overtook it"
            assert lb.listener.counters.failed["http2_flood"] == 1
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert lb.group().targets[0].in_flight == 0

    run(main())


def test_pings_without_end_end_the_connection() -> None:
    async def main() -> None:
        async with balancing() as lb, Client(lb.port) as client:
            for _ in range(700):
                client.frames.ping(b"12345678")
            client.flush()
            while not client.closed:
                await client.receive()
            assert client.goaway == 11

    run(main())


def test_a_target_that_resets_is_502() -> None:
    async def main() -> None:
        async with Origin(reset) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            assert (await client.ask(GET)).status == b"502"
            assert lb.log[0].reason == "target_closed"

    run(main())


def test_an_answer_cut_short_resets_the_stream_and_only_that() -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        exchange.writer.close()

    async def main() -> None:
        async with Origin(cut, response(b"fine")) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            answer = await client.ask(GET)
            assert answer.body == b"part"
            assert answer.reset == 2, "INTERNAL_ERROR"
            assert (await client.ask(GET)).body == b"fine"

    run(main())


def test_a_drain_says_goaway_and_finishes_streams() -> None:
    release = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await release.wait()
        exchange.writer.write(response(b"done"))

    async def main() -> None:
        async with Origin(slow) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            number = client.send(GET)
            while not origin.requests:
                await asyncio.sleep(0.001)
            stopping = asyncio.create_task(lb.proxy.stop(5))
            while client.goaway is None:
                await client.receive()
            release.set()
            # The library drops frames after GOAWAY, so what came is read from the log.
            await stopping
            assert lb.log[0].status == 200
            assert lb.log[0].reason == ""
            assert client.goaway == 0
            assert number == 1

    run(main())


def test_websocket_over_a_stream() -> None:
    """RFC 8441."""

    async def echo(exchange: Exchange) -> None:
        assert exchange.request.value(b"Upgrade") == b"websocket"
        assert exchange.request.value(b"Sec-WebSocket-Key")
        exchange.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: y\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        )
        while data := await exchange.reader.read(100):
            exchange.writer.write(data)
        exchange.writer.close()

    async def main() -> None:
        async with Origin(echo) as origin, balancing(origin.port) as lb, Client(lb.port) as client:
            number = client.send([(b":protocol", b"websocket"), *headers(method=b"CONNECT")], end=False)
            answer = client.answers[number]
            while not answer.headers:
                await client.receive()
            assert answer.status == b"200"
            assert (b"sec-websocket-protocol", b"chat") in answer.headers
            client.frames.send_data(number, b"hello")
            client.flush()
            while answer.body != b"hello":
                await client.receive()
            client.frames.end_stream(number)
            client.flush()
            assert (await client.answer(number)).ended
            assert lb.log[0].status == 101
            target = lb.group().targets[0]
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert target.in_flight == 0

    run(main())


HTTP2 = {"protocol_version": "HTTP2"}


def test_http1_client_http2_target() -> None:
    async def main() -> None:
        async with Http2Origin(reply(body=b"from h2")) as origin, balancing(origin.port, group=HTTP2) as lb:
            answer = await lb.exchange(
                b"POST /p HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            )
            assert answer.startswith(b"HTTP/1.1 200 \r\n")
            assert answer.endswith(b"7\r\nfrom h2\r\n0\r\n\r\n")
            seen = origin.requests[0]
            assert seen.body == b"abcde"
            fields = dict(seen.headers)
            assert (fields[b":path"], fields[b":authority"]) == (b"/p", b"example.org")
            assert fields[b"x-forwarded-for"] == b"127.0.0.1"
            assert b"transfer-encoding" not in fields

    run(main())


def test_many_clients_share_one_connection_to_a_http2_target() -> None:
    async def main() -> None:
        async with Http2Origin() as origin, balancing(origin.port, group=HTTP2) as lb:
            request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            await lb.exchange(request)
            answers = await asyncio.gather(*(lb.exchange(request) for _ in range(30)))
            assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
            assert len(origin.requests) == 31
            assert origin.connections == 1

    run(main())


def test_grpc_passes_with_its_trailers() -> None:
    trailers = [(b"grpc-status", b"0"), (b"grpc-message", b"")]

    async def main() -> None:
        group = {"protocol_version": "GRPC"}
        async with Http2Origin(reply(trailers=trailers)) as origin, balancing(origin.port, group=group) as lb:
            async with Client(lb.port) as client:
                fields = headers((b"te", b"trailers"), (b"content-type", b"application/grpc"), method=b"POST")
                answer = await client.ask(fields, [b"\0\0\0\0\x02hi"])
            assert answer.trailers == trailers
            assert answer.body == b"ok"
            assert dict(origin.requests[0].headers)[b"te"] == b"trailers"
            assert origin.requests[0].body == b"\0\0\0\0\x02hi"

    run(main())


def test_a_http2_target_that_goes_away_is_502_or_tried_again() -> None:
    def leave(frames: object, number: int, request: object) -> None:
        frames.close_connection(last_stream_id=0)  # type: ignore[attr-defined]

    async def main() -> None:
        async with Http2Origin(leave) as origin, balancing(origin.port, group=HTTP2) as lb:
            answer = await lb.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert len(origin.requests) == 2, (
                "RFC 9113 6.8: above the last stream nothing was done, so it may be sent again"
            )
            assert lb.group().targets[0].in_flight == 0

    run(main())
