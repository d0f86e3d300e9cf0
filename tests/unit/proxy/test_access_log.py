"""Lines against the examples in ALB's documentation, hostile bytes, and a file that misbehaves."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.proxy import access_log
from penstock.proxy.access_log import BATCH_RECORDS, AccessLog
from penstock.proxy.log_lines import AccessRecord, alb_line, json_line, timestamp

CREATED, ENDED = 1530570168.364, 1530570180.186641
HTTP = AccessRecord(
    kind="http",
    load_balancer="app/my-loadbalancer/50dc6c495c0c9188",
    listener="0.0.0.0:80",
    client="192.168.131.39:2817",
    created=CREATED,
    time=ENDED,
    received_bytes=34,
    sent_bytes=366,
    status=200,
    target_status=200,
    request_time=0.0,
    target_time=0.001,
    response_time=0.0,
    method=b"GET",
    uri=b"/",
    version=b"HTTP/1.1",
    host=b"www.example.com",
    user_agent=b"curl/7.46.0",
    request_id=b"Root=1-58337262-36d228ad5d99923122bbe354",
    connection_id="TID_6789",
    rule="default",
    action="forward",
    target_group="my-targets",
    target="10.0.0.1:80",
)
DENIED = AccessRecord(
    "https", "app-lb", "[::]:443", "[2001:db8::9]:51234", CREATED, CREATED,
    reason="denied", denied_by="acl:app-acl/inbound/*",
)  # fmt: skip
RELAYED = AccessRecord(
    "tls", "net-lb", "127.0.0.1:8443", "203.0.113.9:51341", CREATED, CREATED + 0.005, 98, 246,
    target_group="tg-db", target="10.0.0.1:5432", tls_protocol="TLSv1.3", tls_cipher="TLS_AES_128_GCM_SHA256",
    server_name="db.example.org", certificate="cert-123",
)  # fmt: skip


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            HTTP,
            "http 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 "
            "192.168.131.39:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 "
            '"GET http://www.example.com:80/ HTTP/1.1" "curl/7.46.0" - - my-targets '
            '"Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" '
            '0 2018-07-02T22:22:48.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_6789 "-" "-" "-"\n',
        ),
        (
            replace(
                HTTP, kind="https", listener="0.0.0.0:443", request_time=0.086, target_time=0.048, response_time=0.037,
                tls_cipher="ECDHE-RSA-AES128-GCM-SHA256", tls_protocol="TLSv1.2", server_name="www.example.com",
                certificate="cert-123", rule="1", host=b"www.example.com:8443",
            ),
            "https 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 "
            "192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 34 366 "
            '"GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 my-targets '
            '"Root=1-58337262-36d228ad5d99923122bbe354" "www.example.com" "cert-123" '
            '1 2018-07-02T22:22:48.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_6789 "-" "-" "-"\n',
        ),
        (
            replace(
                HTTP, status=301, target_status=0, target="", target_group="", action="redirect", rule="20",
                request_time=-1.0, target_time=-1.0, response_time=-1.0, redirect_url=b"https://example.com/",
            ),
            "http 2018-07-02T22:23:00.186641Z app/my-loadbalancer/50dc6c495c0c9188 "
            "192.168.131.39:2817 - -1 -1 -1 301 - 34 366 "
            '"GET http://www.example.com:80/ HTTP/1.1" "curl/7.46.0" - - - '
            '"Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" '
            '20 2018-07-02T22:22:48.364000Z "redirect" "https://example.com/" "-" "-" "-" "-" "-" TID_6789 '
            '"-" "-" "-"\n',
        ),
        (
            DENIED,
            "https 2018-07-02T22:22:48.364000Z app-lb [2001:db8::9]:51234 - -1 -1 -1 - - 0 0 "
            '"- - -" "-" - - - "-" "-" "-" - 2018-07-02T22:22:48.364000Z "-" "-" "denied:acl:app-acl/inbound/*" '
            '"-" "-" "-" "-" - "-" "-" "-"\n',
        ),
        (
            RELAYED,
            "tls 2018-07-02T22:22:48.369000Z net-lb 203.0.113.9:51341 10.0.0.1:5432 -1 -1 -1 - - 98 246 "
            '"- - -" "-" TLS_AES_128_GCM_SHA256 TLSv1.3 tg-db "-" "db.example.org" "cert-123" - '
            '2018-07-02T22:22:48.364000Z "-" "-" "-" "10.0.0.1:5432" "-" "-" "-" - "-" "-" "-"\n',
        ),
    ],
    ids=["http", "https", "redirect", "denied", "tls"],
)  # fmt: skip
def test_alb_lines(record: AccessRecord, line: str) -> None:
    assert alb_line(record).decode() == line


@pytest.mark.parametrize(
    ("change", "request_line"),
    [
        ({"uri": b"*", "method": b"OPTIONS"}, "OPTIONS * HTTP/1.1"),
        ({"host": b""}, "GET http://0.0.0.0:80/ HTTP/1.1"),
        ({"host": b"[2001:db8::1]:8080"}, "GET http://[2001:db8::1]:80/ HTTP/1.1"),
        ({"kind": "h2", "version": b"HTTP/2.0"}, "GET https://www.example.com:80/ HTTP/2.0"),
        ({"kind": "wss"}, "GET https://www.example.com:80/ HTTP/1.1"),
        ({"uri": b"http://other.example/"}, "GET http://other.example/ HTTP/1.1"),
        ({"uri": b'/"\\\r\n\xff'}, "GET http://www.example.com:80/\\x22\\x5C\\x0D\\x0A\\xFF HTTP/1.1"),
    ],
)
def test_the_request_in_an_alb_line(change: dict, request_line: str) -> None:
    assert alb_line(replace(HTTP, **change)).decode().split('"')[1] == request_line


def test_what_a_transform_made_of_a_request() -> None:
    record = replace(
        HTTP, transformed_host=b"b.example.org", transformed_uri=b'/"', transform_status="TransformSuccess"
    )
    assert alb_line(record).endswith(b' TID_6789 "b.example.org" "/\\x22" "TransformSuccess"\n')
    read = json.loads(json_line(record))
    assert (read["transformed_host"], read["transformed_uri"]) == ("b.example.org", '/"')
    failed = replace(HTTP, status=500, reason="rewrite_failed", transform_status="TransformInvalidPath")
    assert alb_line(failed).endswith(b'"-" "-" "TransformInvalidPath"\n')
    assert not json.loads(json_line(failed)).keys() & {"transformed_host", "transformed_uri"}


def test_json_of_a_client_with_a_certificate() -> None:
    record = replace(
        RELAYED, alpn="h2", client_verification="verified", client_subject="CN=app,O=\\C3\\96l",
        client_issuer="CN=Example Root", client_serial="03A5B1",
    )  # fmt: skip
    read = json.loads(json_line(record))
    assert {key: read[key] for key in read if key.startswith("client_")} == {
        "client_certificate": "verified",
        "client_subject": "CN=app,O=\\C3\\96l",
        "client_issuer": "CN=Example Root",
        "client_serial": "03A5B1",
    }
    assert read["alpn"] == "h2"
    assert not [key for key in json.loads(json_line(RELAYED)) if key.startswith("client_")]


def test_json_of_a_request() -> None:
    assert json.loads(json_line(HTTP)) == {
        "time": "2018-07-02T22:23:00.186641Z",
        "type": "http",
        "load_balancer": "app/my-loadbalancer/50dc6c495c0c9188",
        "listener": "0.0.0.0:80",
        "client": "192.168.131.39:2817",
        "duration": 11.822641,
        "received_bytes": 34,
        "sent_bytes": 366,
        "status": 200,
        "method": "GET",
        "host": "www.example.com",
        "version": "HTTP/1.1",
        "user_agent": "curl/7.46.0",
        "uri": "/",
        "request_id": "Root=1-58337262-36d228ad5d99923122bbe354",
        "connection_id": "TID_6789",
        "rule": "default",
        "action": "forward",
        "target_group": "my-targets",
        "target": "10.0.0.1:80",
        "target_status": 200,
        "request_time": 0.0,
        "target_time": 0.001,
        "response_time": 0.0,
    }


def test_json_leaves_out_what_does_not_apply() -> None:
    assert json.loads(json_line(DENIED)) == {
        "time": "2018-07-02T22:22:48.364000Z",
        "type": "https",
        "load_balancer": "app-lb",
        "listener": "[::]:443",
        "client": "[2001:db8::9]:51234",
        "duration": 0.0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "reason": "denied",
        "denied_by": "acl:app-acl/inbound/*",
    }
    relayed = json.loads(json_line(RELAYED))
    assert (relayed["tls_protocol"], relayed["server_name"], relayed["target"]) == (
        "TLSv1.3", "db.example.org", "10.0.0.1:5432",
    )  # fmt: skip
    assert relayed["duration"] == pytest.approx(0.005)
    assert not relayed.keys() & {"method", "status", "request_time", "reason"}
    unanswered = json.loads(json_line(replace(HTTP, target_status=0, status=504, reason="target_timeout")))
    assert (unanswered["request_time"], unanswered["reason"]) == (0.0, "target_timeout")
    assert "target_time" not in unanswered
    redirected = json.loads(json_line(replace(HTTP, redirect_url=b"https://example.org/")))
    assert redirected["redirect_url"] == "https://example.org/"


BYTES_FIELDS = [field.name for field in fields(AccessRecord) if field.type == "bytes"]
TEXT_FIELDS = [field.name for field in fields(AccessRecord) if field.type == "str"]
ALB_FIELDS = re.compile(rb"(?:[^ \"]+|\"[^\"]*\")(?: (?:[^ \"]+|\"[^\"]*\")){32}\n")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.fixed_dictionaries({name: st.binary(max_size=12) for name in BYTES_FIELDS}),
    st.fixed_dictionaries({name: st.text(max_size=6) for name in TEXT_FIELDS}),
)
def test_no_byte_ends_a_field_or_a_line(sent: dict[str, bytes], texts: dict[str, str]) -> None:
    record = replace(HTTP, **sent, **texts)
    for line in (alb_line(record), json_line(record)):
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        assert line.isascii()
    assert ALB_FIELDS.fullmatch(alb_line(record))
    read = json.loads(json_line(record))
    if sent["method"]:
        for name in ("method", "uri", "host", "version", "user_agent"):
            assert read[name].encode("latin-1") == sent[name]
    if sent["redirect_url"]:
        assert read["redirect_url"].encode("latin-1") == sent["redirect_url"]


def test_user_agents_are_cut_where_alb_cuts_them() -> None:
    record = replace(HTTP, user_agent=b"x" * 9000)
    assert len(json.loads(json_line(record))["user_agent"]) == 8192
    assert b'"' + b"x" * 8192 + b'"' in alb_line(record)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0.0, b"1970-01-01T00:00:00.000000Z"),
        (ENDED, b"2018-07-02T22:23:00.186641Z"),
        (1795161599.9999999, b"2026-11-20T08:00:00.000000Z"),
    ],
)
def test_timestamps(moment: float, text: bytes) -> None:
    assert timestamp(moment) == text


def test_batches_and_flush(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0
    for _ in range(BATCH_RECORDS - 1):
        log.add(HTTP)
    assert path.read_bytes() == b""
    log.add(HTTP)
    assert path.read_bytes() == json_line(HTTP) * BATCH_RECORDS
    log.add(DENIED)
    log.flush()
    log.flush()
    log.close()
    log.close()
    assert path.read_bytes() == json_line(HTTP) * BATCH_RECORDS + json_line(DENIED)
    assert (log.lines, log.lost) == (BATCH_RECORDS + 1, 0)


def test_close_writes_what_is_pending_and_later_records_are_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(b"from before\n")
    log = AccessLog(str(path), "alb")
    log.add(HTTP)
    log.close()
    assert path.read_bytes() == b"from before\n" + alb_line(HTTP)
    log.add(HTTP)
    log.close()
    assert (log.lines, log.lost) == (1, 1)


def test_rotation(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    log = AccessLog(str(path))
    log.add(HTTP)
    path.rename(moved)
    log.reopen()
    log.add(DENIED)
    log.close()
    assert moved.read_bytes() == json_line(HTTP)
    assert path.read_bytes() == json_line(DENIED)


def test_rotation_that_fails_goes_on_in_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "access.log"
    log = AccessLog(str(path))
    (tmp_path / "logs").rename(tmp_path / "moved")
    log.reopen()
    log.reopen()
    log.add(HTTP)
    log.close()
    assert (tmp_path / "moved" / "access.log").read_bytes() == json_line(HTTP)
    assert sum("cannot be opened again: No such file or directory" in text for text in caplog.messages) == 1


def test_a_file_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AccessLog(str(tmp_path / "missing" / "access.log"))


def test_a_full_disk_is_counted_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one line and ten bytes, then none, then plenty."""
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    line = json_line(HTTP)
    room = len(line) + 10
    write = os.write

    def write_what_fits(fd: int, data: memoryview) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:room])
        room -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(access_log.os, "write", write_what_fits)
        for _ in range(3):
            log.add(HTTP)
        log.flush()
        assert (log.lines, log.lost) == (1, 2)
        log.add(HTTP)
        log.flush()
        assert (log.lines, log.lost) == (1, 3)
        room = 1  # enough to end the torn line, not for another
        log.add(HTTP)
        log.flush()
        assert (log.lines, log.lost) == (1, 4)
    log.add(DENIED)
    log.close()
    assert (log.lines, log.lost) == (2, 4)
    assert path.read_bytes() == line + line[:10] + b"\n" + json_line(DENIED)
    assert caplog.messages == [
        f"access log {path} cannot be written: No space left on device; lines are lost until it can",
        f"access log {path} is written again; 4 lines were lost so far",
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full (Linux)")
def test_the_kernels_own_full_device() -> None:
    log = AccessLog("/dev/full")
    log.add(HTTP)
    log.close()
    assert (log.lines, log.lost) == (0, 1)
