"""Several processes that serve, and the one that keeps them: it starts them, tells them of every change, replaces them.

The supervisor reads the configuration, checks health and owns the admin address; a worker is a fresh interpreter that
has all the traffic planes and listens at the same addresses (SO_REUSEPORT), so the kernel gives each connection to one
of them. A change reaches all workers or none: all prepare, and only when each has said that it can, all commit. One
that dies has no say in that; who takes its place starts with what is in force then.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..proxy.session_tickets import KEY_BYTES, ROTATION
from .change import Change, Prepared
from .channel import (
    Abort,
    Addresses,
    Channel,
    Commit,
    Count,
    Explain,
    Health,
    Hello,
    Order,
    Prepare,
    ReopenAccessLog,
    Stop,
    TicketKey,
    WindDown,
    encode,
)
from .descriptors import hand_over
from .exits import CannotApply
from .logs import format_in_use
from .totals import Snapshot
from .version import VERSION

if TYPE_CHECKING:
    from ..dns.registrations import Entries
    from ..proxy.health import CheckKey, HealthTable
    from .config.settings import Settings

log = logging.getLogger("penstock.workers")

# Seconds. A worker that dies is replaced after the first of these; each death that follows soon doubles the wait, up to
# the longest, so that one that cannot live does not burn a processor; one that lived for STEADY was no such case.
FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
STEADY = 30.0

# Seconds for a new interpreter to say its first word; it takes half of one, and more on a machine that is busy.
START_TIMEOUT = 60.0
# Seconds without an answer until a worker counts as stuck and is killed. What it does in between is answered in
# milliseconds, but for a change of settings, which compiles: ten thousand rules take one second.
STUCK = 30.0
# Seconds between two looks at what workers have counted, beside those that a scrape asks for. What a killed worker had
# counted since the last look is lost from the sums; looking costs a worker with a thousand targets 3 ms.
LOOK_INTERVAL = 5.0
# Seconds that a scrape waits for a worker; then it gets what that one said last.
LOOK_PATIENCE = 1.0
# Seconds beyond the drain until a worker that was told to end is killed.
END_MARGIN = 5.0


NO_SOCKETS: Mapping[str, socket.socket] = MappingProxyType({})


class WorkerLost(Exception):
    """It died, or did not answer in time, before it had answered."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    number: int
    process_id: int
    up: bool
    restarts: int
    connections: int  # accepted since it began, on all listeners
    cpu_seconds: float
    resident_bytes: int
    out_of_descriptors: bool


class Worker:
    """One process, as its supervisor sees it."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel, line: socket.socket) -> None:
        self.number = number
        self.process = process
        self.began = asyncio.get_running_loop().time()
        self.serving = False
        self.counted = Snapshot()
        self._channel = channel
        self._line = line  # where it is handed listening sockets
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen(), name=f"worker {number} messages")
        self._watching = asyncio.create_task(self._watch(), name=f"worker {number} watch")

    @classmethod
    async def start(cls, number: int) -> Worker:
        """A new process that has said its first word. WorkerLost if it does not come that far."""
        ours, its = socket.socketpair()
        line, its_line = socket.socketpair()
        line.setblocking(False)
        with its, its_line:
            channel = await Channel.over(ours)
            command = [sys.executable, "-P", "-m", "penstock.control.worker"]
            passed = [its.fileno(), its_line.fileno()]
            arguments = [*map(str, passed), str(number), format_in_use()]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, *arguments, stdin=asyncio.subprocess.DEVNULL, pass_fds=passed
                )
            except BaseException as error:
                channel.close()
                line.close()
                if isinstance(error, OSError):
                    raise WorkerLost(f"{sys.executable}: {error.strerror}") from error
                raise
        worker = cls(number, process, channel, line)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                hello = await worker._hello
            if hello.version != VERSION:
                raise WorkerLost(
                    f"Penstock {hello.version} is installed now, and this process is {VERSION}: restart it"
                )
        except BaseException as error:
            died = worker._listening.done()
            worker.kill()
            code = await worker.ended()
            if isinstance(error, TimeoutError):
                raise WorkerLost(f"it said nothing for {START_TIMEOUT:g} s") from None
            if died:
                raise WorkerLost(f"it {_how_it_ended(code)}") from None
            raise
        return worker

    def tell(self, order: Order) -> None:
        self.tell_encoded(encode(0, order))

    def tell_encoded(self, frame: bytes) -> None:
        self._channel.send_encoded(frame)

    def ask(self, order: Order) -> asyncio.Future[Any]:
        return self.ask_encoded(lambda number: encode(number, order))

    def ask_encoded(self, frame: Callable[[int], bytes]) -> asyncio.Future[Any]:
        """`frame` makes the message with the number that its answer will have."""
        answer = asyncio.get_running_loop().create_future()
        if self._listening.done():
            answer.set_exception(WorkerLost("it has ended"))
            return answer
        self._asked += 1
        self._answers[self._asked] = answer
        self._channel.send_encoded(frame(self._asked))
        return answer

    def hand_over(self, sockets: Iterable[socket.socket]) -> None:
        """Before it is asked to prepare for them."""
        try:
            hand_over(self._line, sockets)
        except OSError as error:  # it has ended, or is stuck and will be
            log.error("worker %d (process %d) takes no sockets: %s", self.number, self.process.pid, error.strerror)
            self.kill()

    async def count(self) -> None:
        with suppress(WorkerLost):
            self.counted = await self.ask(Count())

    async def _listen(self) -> None:
        try:
            while (received := await self._channel.receive()) is not None:
                number, message = received
                if isinstance(message, Hello):
                    self._hello.set_result(message)
                elif number == 0:
                    self.counted = message
                elif not (answer := self._answers.pop(number)).done():
                    answer.set_result(message)
        finally:
            self.serving = False
            for answer in (self._hello, *self._answers.values()):
                if not answer.done():
                    answer.set_exception(WorkerLost("it has ended"))
                    answer.exception()  # read here, for nobody need be waiting for it
            self._answers.clear()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            try:
                async with asyncio.timeout(STUCK):
                    await self.count()
            except TimeoutError:
                log.error("worker %d (process %d) has not answered for %g s", self.number, self.process.pid, STUCK)
                self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    async def ended(self) -> int:
        """Its exit code, once it is gone and everything it said was heard."""
        code = await self.process.wait()
        await self._listening
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        self._channel.close()
        self._line.close()
        return code


class Workers:
    """`count` of them. `prepare` starts them if they do not run yet; `stop` ends them all."""

    def __init__(self, count: int, health: HealthTable) -> None:
        self.count = count
        self._health = health
        self._workers: dict[int, Worker] = {}
        self._restarts = dict.fromkeys(range(count), 0)
        self._departed = Snapshot()
        self._settings: Settings | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._committing: list[asyncio.Future[Any]] = []
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._sockets: Mapping[str, socket.socket] = {}
        self.registered: Entries = {}  # what is in DNS beside the settings that are in force, or being prepared
        self._ticket_key = secrets.token_bytes(KEY_BYTES)
        self._winding_down = self._stopping = False
        self._changing = asyncio.Lock()  # held from prepare to commit or abort, and while one is replaced
        health.subscribe(self._health_changed)

    @property
    def serving(self) -> bool:
        return any(worker.serving for worker in self._workers.values())

    async def prepare(self, settings: Settings, sockets: Mapping[str, socket.socket] = NO_SOCKETS) -> Prepared:
        """CannotApply, in the words of the first worker that cannot. `sockets` are those of listeners that the workers
        cannot bind for themselves; they stay the caller's."""
        # The admin address is the supervisor's, and so is the rest of what no traffic needs.
        wanted = replace(settings, admin=None)
        await self._changing.acquire()
        asked: list[Worker] = []
        try:
            if not self._workers:
                await self._start_all()
            asked += self._workers.values()
            problems = await self._prepare(asked, wanted, sockets)
            if problems:
                raise CannotApply(problems[0])
        except BaseException:
            self._abort(asked)
            raise

        def commit() -> None:
            self._settings, self._sockets = wanted, sockets
            self._committing = [self._commit(worker) for worker in asked]
            if not self._keepers:
                self._keepers = [
                    asyncio.create_task(self._rotate_ticket_key(), name="rotation of the ticket key"),
                    *(
                        asyncio.create_task(self._keep(number), name=f"keeper of worker {number}")
                        for number in self._workers
                    ),
                ]
            self._changing.release()

        return Change(commit, lambda: self._abort(asked))

    async def _start_all(self) -> None:
        starting = [asyncio.create_task(Worker.start(number)) for number in range(self.count)]
        try:
            self._workers = dict(enumerate(await asyncio.gather(*starting)))
        except BaseException as error:
            for one in starting:
                one.cancel()
            for one in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(one, Worker):
                    one.kill()
                    await one.ended()
            if isinstance(error, WorkerLost):
                raise CannotApply(f"a worker process cannot be started: {error}") from error
            raise

    async def _prepare(
        self, workers: Collection[Worker], settings: Settings, sockets: Mapping[str, socket.socket]
    ) -> list[str]:
        order = self._whole(settings, sockets)
        frames: dict[int, bytes] = {}

        def encoded(number: int) -> bytes:
            if number not in frames:  # mostly all have been asked as often as each other
                frames[number] = encode(number, order)
            return frames[number]

        for worker in workers:
            worker.hand_over(sockets.values())
        answers = [worker.ask_encoded(encoded) for worker in workers]
        said = await asyncio.gather(*answers, return_exceptions=True)  # no timeout: a stuck one is killed
        return [problem for problem in said if isinstance(problem, str)]

    def _whole(self, settings: Settings, sockets: Mapping[str, socket.socket]) -> Prepare:
        health = dict(self._health.view)
        return Prepare(settings, health, self._addresses, self._ticket_key, tuple(sockets), self.registered)

    async def _rotate_ticket_key(self) -> None:
        while True:
            await asyncio.sleep(ROTATION)
            self._ticket_key = secrets.token_bytes(KEY_BYTES)
            self.tell_all(TicketKey(self._ticket_key))

    def _commit(self, worker: Worker) -> asyncio.Future[Any]:
        worker.serving = True
        if self._winding_down:
            worker.tell(WindDown())
        return worker.ask(Commit())

    def _abort(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            worker.tell(Abort())
        self._changing.release()

    async def settled(self) -> None:
        """Once what was committed last is so in every worker, and the health of what is checked now is known there."""
        self.tell_all(Health(dict(self._health.view), whole=True))
        await asyncio.gather(*self._committing, return_exceptions=True)

    def _health_changed(self, keys: frozenset[CheckKey]) -> None:
        self.tell_all(Health({key: self._health.view[key] for key in keys}, whole=False))

    def use_addresses(self, addresses: dict[str, tuple[str, ...]]) -> None:
        """What targets' names resolve to from now on."""
        self._addresses = addresses
        self.tell_all(Addresses(addresses, dict(self._health.view)))

    def reopen_logs(self) -> None:
        self.tell_all(ReopenAccessLog())

    def wind_down(self) -> None:
        """Have all tell their clients that connections end, those that are started from now on too."""
        self._winding_down = True
        self.tell_all(WindDown())

    def tell_all(self, order: Order) -> None:
        frame = encode(0, order)
        for worker in self._workers.values():
            worker.tell_encoded(frame)

    async def _keep(self, number: int) -> None:
        """See to it that there is always a worker of this number, or one about to start."""
        delay = FIRST_DELAY
        loop = asyncio.get_running_loop()
        while True:
            worker = self._workers[number]
            code = await worker.ended()
            if self._stopping:
                return
            self._departed.add(worker.counted.without_gauges())
            worker.counted = Snapshot()
            if loop.time() - worker.began > STEADY:
                delay = FIRST_DELAY
            log.error(
                "worker %d (process %d) %s; another one starts in %g s",
                number, worker.process.pid, _how_it_ended(code), delay,
            )  # fmt: skip
            replaced = False
            while not replaced:
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY)
                replaced = await self._replace(number, delay)

    async def _replace(self, number: int, delay: float) -> bool:
        async with self._changing:
            assert self._settings is not None
            self._restarts[number] += 1
            try:
                worker = await Worker.start(number)
                self._workers[number] = worker
                worker.hand_over(self._sockets.values())
                problem = await worker.ask(self._whole(self._settings, self._sockets))
                if problem is None:
                    await self._commit(worker)
            except WorkerLost as error:
                problem = str(error)
        if problem is None:
            log.info("worker %d is process %d now", number, self._workers[number].process.pid)
            return True
        log.error("worker %d cannot serve: %s; trying again in %g s", number, problem, delay)
        if (worker := self._workers[number]).process.returncode is None:
            worker.kill()
            await worker.ended()
        return False

    async def explain(self, request_id: bytes, patience: float = LOOK_PATIENCE) -> dict[str, Any] | None:
        """The report of the one that served the request; the others do not know of it."""
        asked = [worker.ask(Explain(request_id)) for worker in self._workers.values() if worker.serving]
        try:
            async with asyncio.timeout(patience):
                for answer in asyncio.as_completed(asked):
                    with suppress(WorkerLost):
                        if (report := await answer) is not None:
                            return report
        except TimeoutError:
            pass  # whoever is too busy to say is asked again by whoever wants to know
        return None

    async def look(self, patience: float = LOOK_PATIENCE) -> None:
        """Ask all what they have counted."""
        looking = [asyncio.create_task(worker.count()) for worker in self._workers.values() if worker.serving]
        if looking:
            _, late = await asyncio.wait(looking, timeout=patience)
            for one in late:
                one.cancel()

    def total(self) -> Snapshot:
        """What all have counted, those that are gone included, as far as it is known."""
        total = Snapshot()
        for one in (self._departed, *(worker.counted for worker in self._workers.values())):
            total.add(one)
        return total

    def statuses(self) -> list[WorkerStatus]:
        return [
            WorkerStatus(
                number, worker.process.pid, worker.serving, self._restarts[number],
                sum(listener["accepted"] for listener in worker.counted.listeners.values()),
                worker.counted.cpu_seconds, worker.counted.resident_bytes, bool(worker.counted.out_of_descriptors),
            )
            for number, worker in sorted(self._workers.items())
        ]  # fmt: skip

    async def stop(self, grace: float) -> None:
        """Have all drain for up to `grace` seconds; who has not ended soon after that is killed."""
        if self._stopping:
            return
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._health.unsubscribe(self._health_changed)
        workers = list(self._workers.values())
        for worker in workers:
            worker.tell(Stop(grace))
        ending = [asyncio.create_task(worker.ended()) for worker in workers]
        if ending:
            _, late = await asyncio.wait(ending, timeout=grace + END_MARGIN)
            if late:
                log.warning("%d workers did not end within the drain and are killed", len(late))
            self.kill()
            await asyncio.gather(*ending)

    def kill(self) -> None:
        for worker in self._workers.values():
            if worker.process.returncode is None:
                worker.kill()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
