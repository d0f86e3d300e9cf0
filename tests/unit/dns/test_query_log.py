"""The query log's file, when it is moved away and when it cannot be opened again."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from penstock.dns.query_log import QueryLog
from penstock.dns.transport_specs import QueryLogSpec
from penstock.dns.wire import Question
from support.dns_packets import question


def add(log: QueryLog, name: str) -> None:
    log.add("192.0.2.1", "udp", Question(1, 0, question(name), 1, 1), bytes(12), 0.001)


def names(file: Path) -> list[str]:
    return [json.loads(line)["name"] for line in file.read_text().splitlines()]


def test_lines_before_and_after_a_rotation_are_in_two_files(tmp_path: Path) -> None:
    file, moved = tmp_path / "dns.log", tmp_path / "dns.log.1"
    log = QueryLog(QueryLogSpec(str(file)))
    for name in ("a", "b"):
        add(log, name)
    file.rename(moved)
    log.reopen()
    add(log, "c")
    log.close()
    assert (names(moved), names(file)) == (["a.", "b."], ["c."])


def test_what_cannot_be_opened_again_goes_on_in_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    log = QueryLog(QueryLogSpec(str(folder / "dns.log")))
    folder.rename(moved)
    with caplog.at_level(logging.ERROR):
        log.reopen()
        add(log, "a")
        log.close()
    assert names(moved / "dns.log") == ["a."]
    assert "cannot be opened again: No such file or directory; going on in the old file" in caplog.text


def test_times_are_written_as_in_the_access_log(tmp_path: Path) -> None:
    log = QueryLog(QueryLogSpec(str(tmp_path / "dns.log")))
    add(log, "a")
    log.close()
    assert json.loads((tmp_path / "dns.log").read_text())["time"].endswith("Z")
