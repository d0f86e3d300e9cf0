"""What makes a reload, and what a reload makes of files that are swapped, half-written, wrong, or missing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from penstock.control.config import Settings, load
from penstock.control.exits import CannotApply
from penstock.control.reload import Reloader
from penstock.control.runtime import ReloadResult
from support import certificates, run

INTERVAL = 0.02


class Fake:
    """A runtime that only remembers what it was told to become."""

    def __init__(self) -> None:
        self.applied: list[Settings] = []
        self.results: list[ReloadResult] = []
        self.refuse: str | None = None

    @property
    def last_reload(self) -> ReloadResult | None:
        return self.results[-1] if self.results else None

    async def apply(self, settings: Settings) -> None:
        if self.refuse is not None:
            raise CannotApply(self.refuse)
        self.applied.append(settings)

    def record_reload(self, result: ReloadResult) -> None:
        self.results.append(result)


def configuration(weight: int, extra: str = "") -> str:
    return f"""\
load_balancer:
  name: lb
  listeners: [{{port: 8080, address: 127.0.0.1, protocol: HTTP}}]
  target_groups: [{{name: tg-web, targets: [{{ip: 192.0.2.1, port: 80, weight: {weight}}}]}}]
{extra}
"""


def weight(settings: Settings) -> int:
    return settings.proxy.target_groups[0].targets[0].weight


@contextlib.asynccontextmanager
async def reloading(path: Path, *, watch: bool = True) -> AsyncIterator[tuple[Reloader, Fake]]:
    fake = Fake()
    loaded = load(path, now=time.time(), materialize=True)
    reloader = Reloader(path, fake, loaded, watch=watch, watch_interval=INTERVAL, retry_interval=INTERVAL)  # type: ignore[arg-type]
    task = asyncio.create_task(reloader.run())
    try:
        yield reloader, fake
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled(), task


async def results(fake: Fake, count: int) -> list[ReloadResult]:
    while len(fake.results) < count:
        await asyncio.sleep(0.002)
    return fake.results


def write_in_place(path: Path, text: str) -> None:
    with path.open("r+") as file:
        file.truncate()
        file.write(text)


def rename_over(path: Path, text: str) -> None:
    """As editors save."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def same_size_and_times(path: Path, text: str) -> None:
    """What stat cannot see, and `cp -p` or a coarse clock can make."""
    before = path.stat()
    write_in_place(path, text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def swap_folder(path: Path, text: str) -> None:
    """As Kubernetes updates a ConfigMap: the file is a link through a link to a folder, and the folder's link moves."""
    folder = path.parent / "..version-2"
    folder.mkdir()
    (folder / path.name).write_text(text)
    link = path.parent / "..data.new"
    link.symlink_to(folder.name)
    link.replace(path.parent / "..data")


@pytest.mark.parametrize("change", [write_in_place, rename_over, same_size_and_times, swap_folder])
def test_a_changed_file_is_applied_however_it_changed(tmp_path: Path, change: Callable[[Path, str], None]) -> None:
    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        (tmp_path / "..version-1").mkdir()
        (tmp_path / "..version-1" / path.name).write_text(configuration(1))
        (tmp_path / "..data").symlink_to("..version-1")
        path.symlink_to(f"..data/{path.name}")
        if change is not swap_folder:
            path.unlink()
            path.write_text(configuration(1))
        async with reloading(path) as (_, fake):
            change(path, configuration(7))
            (result,) = await results(fake, 1)
            assert (result.why, result.outcome) == ("the file changed", "applied")
            assert result.messages == ("target group tg-web: target 192.0.2.1:80: weight 7, was 1",)
            assert [weight(settings) for settings in fake.applied] == [7]

    run(main())


def test_a_comment_is_no_change(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path) as (_, fake):
            path.write_text(configuration(1, "# a remark"))
            (result,) = await results(fake, 1)
            assert (result.outcome, result.messages, fake.applied) == ("unchanged", (), [])

    run(main())


def test_a_file_being_written_is_left_until_it_is_still(tmp_path: Path) -> None:
    """A piece comes between every two looks; only the whole is read."""

    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path) as (_, fake):
            whole = configuration(2)
            for end in range(40, len(whole), 40):
                path.write_text(whole[:end])
                await asyncio.sleep(INTERVAL / 2)
            path.write_text(whole)
            (result,) = await results(fake, 1)
            assert result.outcome == "applied"

    run(main())


def test_a_bad_file_changes_nothing_and_says_all_that_is_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path) as (_, fake):
            path.write_text(configuration(1000, "listners: []"))
            (result,) = await results(fake, 1)
            assert result.outcome == "rejected"
            assert len(result.messages) == 2
            assert result.messages[0].startswith(f"{path}:4:78: load_balancer.target_groups[0].targets[0].weight: ")
            assert result.messages[1].startswith(f"{path}:5:1: listners: ")
            assert all(message in caplog.text for message in result.messages)
            path.write_text(configuration(3))
            await results(fake, 2)
            assert [weight(settings) for settings in fake.applied] == [3]

    run(main())


def test_a_missing_file_changes_nothing_and_is_read_when_it_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path) as (_, fake):
            path.unlink()
            (result,) = await results(fake, 1)
            assert result.messages == (f"{path} cannot be read: No such file or directory",)
            path.write_text(configuration(1))
            assert (await results(fake, 2))[1].outcome == "unchanged"
            assert fake.applied == []

    run(main())


def test_what_was_in_the_way_is_tried_again_and_said_once(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path) as (_, fake):
            fake.refuse = "cannot listen on 127.0.0.1:8080: another process does"
            path.write_text(configuration(2))
            (result,) = await results(fake, 1)
            assert (result.outcome, result.messages) == ("rejected", (fake.refuse,))
            await asyncio.sleep(INTERVAL * 5)
            assert len(fake.results) == 1
            fake.refuse = None
            again = (await results(fake, 2))[1]
            assert (again.why, again.outcome) == ("trying again", "applied")
            await asyncio.sleep(INTERVAL * 5)
            assert len(fake.results) == 2

    run(main())


def test_certificate_files_are_watched_too(tmp_path: Path) -> None:
    async def main() -> None:
        certificate, key = tmp_path / "server.pem", tmp_path / "server.key"

        def renew() -> None:
            issued = certificates.issue("example.org", days=60)
            certificate.write_bytes(issued.chain_pem)
            key.write_bytes(issued.key_pem)

        renew()
        path = tmp_path / "penstock.yaml"
        extra = "certificates: [{name: cert-123, cert_file: server.pem, key_file: server.key}]"
        source = configuration(1, extra).replace("protocol: HTTP}", "protocol: HTTPS, certificate: cert-123}")
        path.write_text(source)
        async with reloading(path) as (_, fake):
            renew()
            (result,) = await results(fake, 1)
            assert (result.why, result.outcome) == ("the file changed", "applied")
            assert "listener 127.0.0.1:8080: certificate cert-123 changed" in result.messages

    run(main())


def test_a_request_reloads_even_when_nobody_watches(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path, watch=False) as (reloader, fake):
            path.write_text(configuration(2))
            await asyncio.sleep(INTERVAL * 5)
            assert fake.results == []
            reloader.request()
            reloader.request()  # two signals before the first is looked at are one
            (result,) = await results(fake, 1)
            assert (result.why, result.outcome) == ("SIGHUP", "applied")
            reloader.request()
            assert (await results(fake, 2))[1].outcome == "unchanged"

    run(main())


def test_a_bug_in_reading_does_not_end_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    async def main() -> None:
        path = tmp_path / "penstock.yaml"
        path.write_text(configuration(1))
        async with reloading(path) as (reloader, fake):
            with monkeypatch.context() as patch:
                patch.setattr("penstock.control.reload.load", broken)
                reloader.request()
                (result,) = await results(fake, 1)
            assert (result.outcome, result.messages) == ("rejected", ("ZeroDivisionError: a bug",))
            path.write_text(configuration(2))
            while fake.results[-1].outcome != "applied":
                await asyncio.sleep(INTERVAL)

    run(main())
