"""One question, put to one resolver after the other, and to two at once when the first is slow, until one answers.

Who said something unusable is not asked again, who was silent is, once. A second resolver is asked as well after 1.5
times the 95th percentile of the first one's latencies, so that one slow resolver costs nobody a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

from .counters import DnsCounters
from .extended_errors import TIMED_OUT, UNREACHABLE, UNUSABLE, ExtendedError
from .inquiry import Answer, Inquiry
from .selection import Track, in_order
from .wire import Question, Rcode

DEADLINE = 4.5  # seconds for a question, all tries together; glibc waits 5
ROUNDS = 2  # times that each resolver is tried, for a datagram may just be lost
AT_ONCE = 2  # resolvers asked at the same time: a slow pair shall not have the third asked for every question

# Answers that say "not me" rather than something about the name.
_UNUSABLE = frozenset((Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED))


class Race:
    """`done` is called once, and not before `start` has returned; not at all after `cancel`."""

    __slots__ = (
        "_counters",
        "_deadline",
        "_done",
        "_hedge",
        "_loop",
        "_mixed_case",
        "_order",
        "_question",
        "_running",
        "_tasks",
        "_timeout",
        "_unreachable",
        "_unusable",
    )

    def __init__(
        self,
        question: Question,
        tracks: Sequence[Track],
        done: Callable[[Answer | None, ExtendedError | None], None],
        counters: DnsCounters,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._question = question
        self._order = in_order(tracks, monotonic()) * ROUNDS
        self._order.reverse()  # the next one is popped from its end
        self._done = done
        self._counters = counters
        self._tasks = tasks
        self._running: list[Inquiry] = []
        self._unusable: set[Track] = set()
        self._unreachable = True  # as far as we know
        self._timeout = 0.0
        self._mixed_case = True
        self._hedge: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def start(self, timeout: float, *, mixed_case: bool) -> None:
        self._timeout = timeout
        self._mixed_case = mixed_case
        self._deadline = self._loop.call_later(DEADLINE, self._finish, None, TIMED_OUT)
        self._ask_next()

    def cancel(self) -> None:
        for timer in (self._hedge, self._deadline):
            if timer is not None:
                timer.cancel()
        for inquiry in self._running:
            inquiry.cancel()
        self._running.clear()

    def sent(self, message_id: int, section: bytes) -> bool:
        return any(inquiry.sent(message_id, section) for inquiry in self._running)

    def _ask_next(self) -> None:
        while self._order:
            track = self._order[-1]
            if any(inquiry.track is track for inquiry in self._running):
                return  # its time is not over
            self._order.pop()
            if track in self._unusable:
                continue
            inquiry = Inquiry(track, self._question, self._answered, self._counters, self._loop, self._tasks)
            self._running.append(inquiry)
            inquiry.start(self._timeout, mixed_case=self._mixed_case)
            if self._order and len(self._running) < AT_ONCE:
                self._hedge = self._loop.call_later(track.hedge_after(), self._ask_another)
            return
        if not self._running:
            self._finish(None, self._why())

    def _ask_another(self) -> None:
        self._hedge = None
        before = len(self._running)
        self._ask_next()
        self._counters.forward_hedged += len(self._running) - before

    def _answered(self, inquiry: Inquiry, answer: Answer | None) -> None:
        self._running.remove(inquiry)
        self._unreachable = self._unreachable and inquiry.unreachable
        if answer is not None:
            response = answer[1]
            if response.rcode not in _UNUSABLE and response.rcode <= 15:
                self._finish(answer, None)
                return
            self._unusable.add(inquiry.track)
            self._counters.forward_unusable += 1
        if self._hedge is not None:
            self._hedge.cancel()
            self._hedge = None
        self._ask_next()

    def _why(self) -> ExtendedError:
        if self._unusable:
            return UNUSABLE
        return UNREACHABLE if self._unreachable else TIMED_OUT

    def _finish(self, answer: Answer | None, error: ExtendedError | None) -> None:
        self.cancel()
        self._done(answer, error)
