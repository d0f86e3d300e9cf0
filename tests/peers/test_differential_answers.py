"""The same answers of a scripted origin through Penstock, HAProxy and nginx: what the client gets of each.

What is compared: the final status, the interim ones before it, the content, whether its end was told, and a field with
odd bytes. A difference that has no row fails; `sound` are those that are messages by RFC 9112.
"""

from __future__ import annotations

from pathlib import Path

import h11
import pytest

from support import Exchange, Origin, free_port, run
from support.balancer import balancing
from support.peers import PEERS, compare, exchange, in_front

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"

SOUND: dict[str, bytes] = {
    "length": OK + TWO + b"\r\nok",
    "chunked": CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    "extension and trailer": CHUNKED + b"2;x\r\nok\r\n0\r\nT: 1\r\n\r\n",
    "leading zeros in a chunk": CHUNKED + b"0002\r\nok\r\n000\r\n\r\n",
    "until close": OK + b"\r\nok",
    "HTTP/1.0 until close": b"HTTP/1.0 200 OK\r\n\r\nok",
    "HTTP/1.0 with a length": b"HTTP/1.0 200 OK\r\n" + TWO + b"\r\nok",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "205": b"HTTP/1.1 205 Reset Content\r\n" + EMPTY,
    "304 with a length": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "103 before": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + TWO + b"\r\nok",
    "unasked 100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + TWO + b"\r\nok",
    "two 102 before": b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + OK + TWO + b"\r\nok",
    "no phrase": b"HTTP/1.1 200 \r\n" + TWO + b"\r\nok",
    "unknown status": b"HTTP/1.1 299 Odd\r\n" + TWO + b"\r\nok",
    "leading zeros in the length": OK + b"Content-Length: 002\r\n\r\nok",
    "coding in capitals": OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "bytes above 0x7f": OK + TWO + b"X: \xe9\xff\r\n\r\nok",
    "tab in a value": OK + TWO + b"X: a\tb\r\n\r\nok",
    "empty value": OK + TWO + b"X:\r\n\r\nok",
    "sixty fields": OK + TWO + b"".join(b"Y-%d: y\r\n" % n for n in range(60)) + b"\r\nok",
}

CASES: dict[str, bytes] = SOUND | {
    "no space before no phrase": b"HTTP/1.1 200\r\n" + TWO + b"\r\nok",
    "length and coding": OK + TWO + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": OK + TWO + b"Content-Length: 3\r\n\r\nok!",
    "the same length twice": OK + TWO + TWO + b"\r\nok",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "signed length": OK + b"Content-Length: +2\r\n\r\nok",
    "empty length": OK + b"Content-Length:\r\n\r\nok",
    "unknown coding": OK + b"Transfer-Encoding: xchunked\r\n\r\nok",
    "chunked not final": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nok",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "one bare LF": OK + b"X: a\n" + TWO + b"\r\nok",
    "space before colon": OK + b"X : a\r\n" + TWO + b"\r\nok",
    "folded": OK + b"X: a\r\n b\r\n" + TWO + b"\r\nok",
    "NUL in a value": OK + b"X: a\x00b\r\n" + TWO + b"\r\nok",
    "bare CR in a value": OK + b"X: a\rb\r\n" + TWO + b"\r\nok",
    "control character in a value": OK + b"X: a\x01b\r\n" + TWO + b"\r\nok",
    "no colon": OK + b"NoColon\r\n" + TWO + b"\r\nok",
    "empty name": OK + b": a\r\n" + TWO + b"\r\nok",
    "status of two digits": b"HTTP/1.1 20 OK\r\n" + TWO + b"\r\nok",
    "status of four": b"HTTP/1.1 2000 OK\r\n" + TWO + b"\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\n" + TWO + b"\r\nok",
    "HTTP/0.9": b"<html>ok</html>\r\n\r\n",
    "nothing": b"",
    "half a head": OK + b"Content-",
    "an empty line first": b"\r\n" + OK + TWO + b"\r\nok",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "shorter than its length": OK + b"Content-Length: 9\r\n\r\nok",
    "longer than its length": OK + TWO + b"\r\nokHTTP/1.1 200 OK\r\n\r\n",
    "body of 204": b"HTTP/1.1 204 No Content\r\n" + TWO + b"\r\nok",
    "ends in a chunk": CHUNKED + b"9\r\nok",
    "ends before the last chunk": CHUNKED + b"2\r\nok\r\n",
    "size with a prefix": CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "wrong bytes after a chunk": CHUNKED + b"2\r\nokXX0\r\n\r\n",
    "LF after a size": CHUNKED + b"2\nok\r\n0\r\n\r\n",
    "size of 17 digits": CHUNKED + b"1" + b"0" * 16 + b"\r\nok",
}

# (peer, case): why we say otherwise.
ACCEPTED: dict[tuple[str, str], str] = {
    (
        "haproxy",
        "unasked 100 before",
    ): "RFC 9110 15.2 lets a proxy drop what nobody asked for; a client would take it for another request's",
    (
        "haproxy",
        "length and coding",
    ): "RFC 9112 6.3 lets it drop the length; two framings are how answers are split, so 502",
    ("haproxy", "the same length twice"): "RFC 9110 8.6 lets it collapse them; we refuse what we would have to repair",
    ("haproxy", "a list of lengths"): "RFC 9110 8.6 lets it collapse them; we refuse what we would have to repair",
    ("haproxy", "coding in HTTP/1.0"): "RFC 9112 6.1: such a message's framing is faulty",
    ("haproxy", "bare LF"): "RFC 9112 2.2 lets it take LF for a line's end; who does not sees another message",
    ("haproxy", "one bare LF"): "RFC 9112 2.2 lets it take LF for a line's end; who does not sees another message",
    ("haproxy", "control character in a value"): "RFC 9110 5.5 forbids it",
    ("haproxy", "HTTP/2.0"): "no HTTP/2 begins with such a line, so what follows is anybody's guess",
    ("haproxy", "LF after a size"): "RFC 9112 7.1 knows CR LF only; the seed of TERM.EXT smuggling",
    (
        "haproxy",
        "size with a prefix",
    ): "it looks at the body before the head goes on; here the head has gone on, and the answer is cut",
    (
        "haproxy",
        "wrong bytes after a chunk",
    ): "it looks at the body before the head goes on; here the head has gone on, and the answer is cut",
    (
        "haproxy",
        "size of 17 digits",
    ): "it looks at the body before the head goes on; here the head has gone on, and the answer is cut",
    ("haproxy", "folded"): "RFC 9112 5.2 lets it unfold; we refuse what we would have to repair",
    (
        "haproxy",
        "an empty line first",
    ): "RFC 9112 2.2 lets servers leave one out before a request, not clients before an answer",
    (
        "nginx",
        "unasked 100 before",
    ): "RFC 9110 15.2 lets a proxy drop what nobody asked for; a client would take it for another request's",
    (
        "nginx",
        "length and coding",
    ): "RFC 9112 6.3 lets it drop the length; two framings are how answers are split, so 502",
    ("nginx", "the same length twice"): "RFC 9110 8.6 lets it collapse them; we refuse what we would have to repair",
    ("nginx", "a list of lengths"): "RFC 9110 8.6 lets it collapse them; we refuse what we would have to repair",
    ("nginx", "coding in HTTP/1.0"): "RFC 9112 6.1: such a message's framing is faulty",
    ("nginx", "bare LF"): "RFC 9112 2.2 lets it take LF for a line's end; who does not sees another message",
    ("nginx", "one bare LF"): "RFC 9112 2.2 lets it take LF for a line's end; who does not sees another message",
    ("nginx", "control character in a value"): "RFC 9110 5.5 forbids it",
    ("nginx", "HTTP/2.0"): "no HTTP/2 begins with such a line, so what follows is anybody's guess",
    ("nginx", "LF after a size"): "RFC 9112 7.1 knows CR LF only; the seed of TERM.EXT smuggling",
    ("nginx", "two lengths"): "RFC 9112 6.3: unrecoverable, so 502",
    ("nginx", "signed length"): "RFC 9110 8.6: digits only; it reads until close",
    ("nginx", "empty length"): "RFC 9110 8.6: one digit at least; it reads until close",
    ("nginx", "chunked twice"): "RFC 9112 6.1 forbids it",
    ("nginx", "no colon"): "it leaves the line out and goes on; we refuse what we would have to repair",
    ("haproxy", "NUL in a value"): "RFC 9110 5.5 forbids it; it is relayed there, and C programs end the value at it",
    ("haproxy", "status of two digits"): "RFC 9112 4: three digits; it is relayed there",
    ("haproxy", "status of four"): "RFC 9112 4: three digits; it is relayed there",
    ("nginx", "unknown coding"): "closes without a word; ours is a 502 that says so",
    ("nginx", "chunked not final"): "closes without a word; ours is a 502 that says so",
    ("nginx", "status of two digits"): "taken for HTTP/0.9 and relayed as it is",
    ("nginx", "status of four"): "taken for HTTP/0.9 and relayed as it is",
    ("nginx", "HTTP/0.9"): "relayed as it is; to a client of HTTP/1.1 it is no answer",
    ("nginx", "an empty line first"): "taken for HTTP/0.9 and relayed as it is",
    ("nginx", "unasked 101"): "relayed, though nobody asked for another protocol (RFC 9110 15.2.2)",
    ("nginx", "size with a prefix"): "closes without a word; here the head has gone on, and the answer is cut",
    ("nginx", "wrong bytes after a chunk"): "closes without a word; here the head has gone on, and the answer is cut",
    ("nginx", "size of 17 digits"): "closes without a word; here the head has gone on, and the answer is cut",
}

# Interim statuses, status, content, whether its end was told, the values of X.
Verdict = tuple[tuple[int, ...], int, bytes, bool, tuple[bytes, ...]]


def verdict(answer: bytes) -> Verdict:
    """As h11 reads it to the connection's end. Status 0 is an answer that h11 does not take for one."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Connection", "close")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    client.receive_data(b"")
    interim: list[int] = []
    status, content, whole = 0, b"", False
    values: tuple[bytes, ...] = ()
    try:
        while not isinstance(event := client.next_event(), h11.ConnectionClosed):
            match event:
                case h11.InformationalResponse():
                    interim.append(event.status_code)
                case h11.Response():
                    status = event.status_code
                    values = tuple(value for name, value in event.headers if name == b"x")
                case h11.Data():
                    content += bytes(event.data)
                case h11.EndOfMessage():
                    whole = True
                    break
                case _:
                    break
    except h11.RemoteProtocolError:
        pass
    # The sentences of our own refusals, and of theirs, are nobody's content.
    return tuple(interim), status, content if status < 400 else b"", whole, values


def scripted(port: int = 0) -> Origin:
    """Which answer is wanted the request's target says, by number."""
    answers = list(CASES.values())

    async def say(exchange: Exchange) -> None:
        exchange.writer.write(answers[int(exchange.request.target[1:])])
        await exchange.writer.drain()
        exchange.writer.close()

    return Origin(say, port=port)


async def verdicts(port: int) -> dict[str, Verdict]:
    asked = b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    return {name: verdict(await exchange(port, asked % number)) for number, name in enumerate(CASES)}


async def through_penstock() -> dict[str, Verdict]:
    async with scripted() as origin, balancing(origin.port) as balancer:
        return await verdicts(balancer.port)


async def through_peer(port: int, origin: Origin) -> dict[str, Verdict]:
    async with origin:
        return await verdicts(port)


@pytest.mark.parametrize("peer", PEERS)
def test_what_the_client_gets(peer: str, tmp_path: Path) -> None:
    port, origin = free_port(), scripted(free_port())
    with in_front(peer, tmp_path, port, origin.port):
        theirs = run(through_peer(port, origin))
    compare(peer, run(through_penstock()), theirs, ACCEPTED)


def test_what_is_sound_arrives_whole() -> None:
    ours = run(through_penstock())
    for name in SOUND:
        interim, status, content, whole, _ = ours[name]
        assert whole, name
        assert (status, content) == (200, b"ok") or name in ("204", "205", "304 with a length", "unknown status"), name
        assert interim == ((103,) if name.startswith("103") else (102, 102) if "102" in name else ()), name


def test_rows_name_cases_that_are_tried() -> None:
    assert {case for _, case in ACCEPTED} <= CASES.keys()
