"""The admin address as its callers see it: probes, scrapers, scripts, and those who ask for what it has not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.control.admin.client import NoAnswerError, get_status
from penstock.control.admin.metrics import CODE_CLASSES
from penstock.control.runtime import ReloadResult, Runtime
from penstock.proxy.counters import DURATION_BUCKETS
from support import Exchange, Origin, response, run
from support.configuration import Ports, settings, text

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def ask(port: int, request: str) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    return int(status_line.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


async def samples(port: int) -> Samples:
    status, headers, body = await ask(port, "GET /metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    found: Samples = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} stands there twice"
            found[key] = sample.value
    return found


async def healthy(runtime: Runtime) -> None:
    while not all(map(runtime.health.is_healthy, runtime.health.view)):
        await asyncio.sleep(0.005)


ANSWERS = [
    ("GET /healthz", 200, "text/plain", b"ok\n"),
    ("GET /readyz", 200, "text/plain", b"ready\n"),
    ("HEAD /healthz", 200, "text/plain", b""),
    ("HEAD /metrics", 200, "text/plain", b""),
    ("HEAD /status", 200, "application/json", b""),
    ("GET /", 404, "application/problem+json", None),
    ("GET /explain/nobody", 404, "application/problem+json", None),
    ("GET /metrics/", 404, "application/problem+json", None),
    ("GET /%2e%2e/etc/passwd", 404, "application/problem+json", None),
    ("POST /status", 405, "application/problem+json", None),
    ("DELETE /metrics", 405, "application/problem+json", None),
]


def test_routes(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        runtime = Runtime()
        await runtime.start(settings(text(ports, 9), tmp_path))
        for request, status, content_type, body in ANSWERS:
            got, headers, content = await ask(ports.admin, request)
            assert (request, got) == (request, status)
            assert headers["Content-Type"].startswith(content_type)
            assert headers["Cache-Control"] == "no-store"
            assert headers["Server"] == "penstock"
            if body is None:
                problem = json.loads(content)
                assert (problem["status"], problem["detail"]) == (status, request.replace("%2e%2e", ".."))
            else:
                assert content == body
        assert "GET" in (await ask(ports.admin, "POST /status"))[1]["Allow"]
        runtime.phase = "draining"
        assert (await ask(ports.admin, "GET /readyz"))[::2] == (503, b"draining\n")
        assert (await ask(ports.admin, "GET /healthz"))[0] == 200  # it lives; it only wants no more work
        await runtime.stop(0)

    run(main())


def test_a_bug_of_ours_is_a_problem_document_and_a_traceback_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("a bug")

    async def main() -> None:
        ports = Ports()
        runtime = Runtime()
        await runtime.start(settings(text(ports, 9), tmp_path))
        monkeypatch.setattr("penstock.control.admin.server.status_of", broken)
        status, headers, body = await ask(ports.admin, "GET /status")
        assert (status, headers["Content-Type"].split(";")[0]) == (500, "application/problem+json")
        assert b"bug" not in body
        await runtime.stop(0)

    run(main())
    assert any(record.exc_info and "a bug" in str(record.exc_info[1]) for record in caplog.records)


@pytest.mark.parametrize("sent", [b"GET /status HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", b"\x16\x03\x01\x00\r\n\r\n"])
def test_what_is_no_http_is_answered_and_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    async def main() -> None:
        ports = Ports()
        runtime = Runtime()
        await runtime.start(settings(text(ports, 9), tmp_path))
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.admin)
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.0 400 Bad Request\r\n")
        writer.close()
        await runtime.stop(0)

    run(main())
    assert not [record for record in caplog.records if record.name == "aiohttp.server"]


def test_metrics_are_what_happened(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin(response(b"yes")) as good, Origin(response(status=500)) as bad:
            extra = f"    - {{name: tg-bad, targets: [{{ip: 127.0.0.1, port: {bad.port}}}]}}\n"
            source = text(ports, good.port).replace("service_discovery:", extra + "service_discovery:")
            rule = '{priority: 5, conditions: {path: ["/bad"]}, action: {forward: tg-bad}}'
            source = source.replace("{forward: tg-web}}", f"{{forward: tg-web}}, rules: [{rule}]}}")
            runtime = Runtime()
            await runtime.start(settings(source, tmp_path))
            await healthy(runtime)
            for path in ("/", "/", "/", "/bad"):
                await ask(ports.http, f"GET {path}")
            runtime.record_reload(ReloadResult(0.0, "SIGHUP", "rejected", ("no",)))
            found = await samples(ports.admin)
            await runtime.stop(0)

        listener = ("listener", f"127.0.0.1:{ports.http}")
        web = (("target", f"127.0.0.1:{good.port}"), ("target_group", "tg-web"))
        unchecked = (("target", f"127.0.0.1:{bad.port}"), ("target_group", "tg-bad"))
        requests = "penstock_http_requests_total"
        assert [found[requests, (("code_class", code), listener)] for code in CODE_CLASSES] == [0, 0, 3, 0, 0, 1]
        assert found["penstock_listener_connections_total", (listener,)] == 4
        assert found["penstock_listener_connections_active", (listener,)] == 0
        assert found["penstock_listener_rule_matches_total", (listener, ("rule", "5"))] == 1
        assert found["penstock_listener_rule_matches_total", (listener, ("rule", "default"))] == 3
        assert found["penstock_target_requests_total", web] == 3
        assert found["penstock_target_requests_total", unchecked] == 1
        responses = "penstock_target_responses_total"
        assert [(labels[0], count) for (name, labels), count in found.items() if name == responses] == [
            (("code_class", "2xx"), 3),
            (("code_class", "5xx"), 1),
        ]
        assert found["penstock_target_healthy", web] == 1
        assert found["penstock_target_healthy", unchecked] == 1
        assert found["penstock_target_in_flight", web] == 0
        buckets = [
            found["penstock_http_request_duration_seconds_bucket", (("le", str(bound)), listener)]
            for bound in (*DURATION_BUCKETS, "+Inf")
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found["penstock_http_request_duration_seconds_count", (listener,)] == 4
        assert found["penstock_config_reloads_total", (("result", "rejected"),)] == 1
        assert found["penstock_config_last_reload_successful", ()] == 0
        assert found["penstock_ready", ()] == 1
        assert any(name == "process_resident_memory_bytes" for name, _ in found)

    run(main())


def test_a_stranger_makes_no_series(tmp_path: Path) -> None:
    """Label values come from the configuration: hosts, paths and methods that were never seen add none."""

    async def main() -> None:
        ports = Ports()
        async with Origin() as origin:
            runtime = Runtime()
            await runtime.start(settings(text(ports, origin.port), tmp_path))
            await healthy(runtime)
            await ask(ports.http, "GET /")
            before = set(await samples(ports.admin))
            for number in range(20):
                await ask(ports.http, f"METHOD{number} /path/{number}")
            assert set(await samples(ports.admin)) == before
            await runtime.stop(0)

    run(main())


def test_a_target_that_drains_beside_its_successor_is_one_series(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        release = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            if exchange.request.target == b"/slow":
                await release.wait()
            exchange.writer.write(response())

        async with Origin(slow) as origin:
            with_it, without = (settings(text(ports, *targets), tmp_path) for targets in ((origin.port,), ()))
            runtime = Runtime()
            await runtime.start(with_it)
            request = asyncio.create_task(ask(ports.http, "GET /slow"))
            while not any(seen.target == b"/slow" for seen in origin.requests):
                await asyncio.sleep(0.005)
            await runtime.apply(without)
            (target,) = get_target(await status(ports.admin))
            assert (target["health"]["state"], target["in_flight"]) == ("draining", 1)
            assert target["health"]["reason"] == "Target.DeregistrationInProgress"
            await runtime.apply(with_it)
            await ask(ports.http, "GET /")
            key = (("target", f"127.0.0.1:{origin.port}"), ("target_group", "tg-web"))
            found = await samples(ports.admin)
            assert found["penstock_target_in_flight", key] == 1
            assert found["penstock_target_requests_total", key] == 2
            assert found["penstock_target_draining", key] == 0
            release.set()
            assert (await request)[0] == 200
            await runtime.stop(0)

    run(main())


async def status(port: int) -> dict[str, object]:
    return await asyncio.to_thread(get_status, f"127.0.0.1:{port}")


def get_target(answer: dict[str, object]) -> list[dict[str, object]]:
    groups = answer["target_groups"]
    assert isinstance(groups, list)
    return groups[0]["targets"]


def test_status_says_what_is_and_why(tmp_path: Path) -> None:
    async def main() -> None:
        ports = Ports()
        async with Origin(response(status=503)) as origin:
            runtime = Runtime()
            await runtime.start(settings(text(ports, origin.port), tmp_path))
            while not any(record.state == "unhealthy" for record in runtime.health.view.values()):
                await asyncio.sleep(0.005)
            result = ReloadResult(1_800_000_000.0, "SIGHUP", "rejected", ("f.yaml:1:1: a: b",))
            runtime.record_reload(result)
            answer = await status(ports.admin)
            await runtime.stop(0)
        assert answer["phase"] == "ready"
        (target,) = get_target(answer)
        health = target["health"]
        assert isinstance(health, dict)
        assert (health["state"], health["reason"]) == ("unhealthy", "Target.ResponseCodeMismatch")
        assert health["description"] == "Health checks failed with these codes: [503]"
        assert 0 <= health["for_seconds"] < 5
        assert answer["configuration"]["last_reload"] == {  # type: ignore[index]
            "at": "2027-01-15T08:00:00Z",
            "why": "SIGHUP",
            "result": "rejected",
            "messages": ["f.yaml:1:1: a: b"],
        }
        dns = answer["dns"]
        assert isinstance(dns, dict)
        assert dns["listen"] == [f"127.0.0.1:{ports.dns}"]
        (service,) = dns["services"]
        assert service["names"] == ["web.services"]
        assert [instance["healthy"] for instance in service["instances"]] == [False]
        (listener,) = answer["listeners"]  # type: ignore[misc]
        assert (listener["listener"], listener["protocol"]) == (f"127.0.0.1:{ports.http}", "HTTP")

    run(main())


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:٩"])
def test_status_of_what_is_no_address(address: str) -> None:
    with pytest.raises(NoAnswerError, match="is not an address and a port"):
        get_status(address)


@pytest.mark.parametrize("address", ["{}", "http://{}", "http://{}/"])
def test_status_by_an_address_as_curl_takes_it(address: str) -> None:
    found = {"target_groups": []}

    async def main() -> None:
        async with Origin(response(json.dumps(found).encode())) as origin:
            assert await asyncio.to_thread(get_status, address.format(f"127.0.0.1:{origin.port}")) == found

    run(main())


def test_who_does_not_answer_on_ipv6_is_told_how_yaml_wants_it() -> None:
    with pytest.raises(NoAnswerError, match=r'with `admin: \{listen: "\[::1\]:1"\}` in'):
        get_status("[::1]:1")


@pytest.mark.parametrize(
    "answer", [response(b"hello"), response(b"{}"), response(b"[]"), response(status=404), b"SSH-2.0-x\r\n"]
)
def test_status_of_somebody_else(answer: bytes) -> None:
    async def main() -> None:
        async with Origin(answer) as origin:
            with pytest.raises(NoAnswerError):
                await status(origin.port)

    async def closing(exchange: Exchange) -> None:
        exchange.writer.write(answer)
        exchange.writer.close()

    async def closed() -> None:
        async with Origin(closing) as origin:
            with pytest.raises(NoAnswerError):
                await status(origin.port)

    run(main() if answer.startswith(b"HTTP") else closed())


def test_a_recent_request_is_explained(tmp_path: Path) -> None:
    async def main() -> None:
        async with Origin(response()) as origin:
            ports = Ports()
            runtime = Runtime()
            await runtime.start(settings(text(ports, origin.port), tmp_path))
            try:
                await healthy(runtime)
                await ask(ports.http, "GET /x")
                asked = next(request for request in origin.requests if request.target == b"/x")
                name = asked.value(b"X-Amzn-Trace-Id")
                assert name is not None
                status, _, body = await ask(ports.admin, f"GET /explain/{name.decode()}")
                report = json.loads(body)
                assert (status, report["asked"], report["rule"]) == (200, "GET a/x", "default")
                assert report["shares"][0]["candidates"][0]["picked"] is True
                assert report["outcome"]["target"] == f"127.0.0.1:{origin.port}"
                assert report["outcome"]["status"] == 200
            finally:
                await runtime.stop()

    run(main())
