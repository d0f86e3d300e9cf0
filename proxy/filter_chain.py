"""The filters of one place, compiled: for each phase who takes part in it, and whether one of them waits.

A chain never changes: a request keeps the one that it began with, whatever a reload does. What nobody takes part in is
an empty tuple here, and the request's course does not lead by it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .specs import FilterSpec, ListenerSpec, RuleSpec

if TYPE_CHECKING:
    from .counters import ListenerCounters
    from .filter_pool import LiveFilter
    from .log_lines import AccessRecord

logger = logging.getLogger(__name__)

PHASES = ("on_request", "pick", "on_upstream_request", "on_response", "on_log")

# Seconds between two tracebacks of one filter's one phase: a filter that fails, fails thousands of times a second.
REPORT_INTERVAL = 60.0


class FilterFailed(Exception):
    """A filter raised, gave back what it may not, or took too long. It was reported where it happened."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Hook:
    """One filter's part in one phase."""

    filter: LiveFilter
    phase: str
    call: Callable[..., Any]
    asynchronous: bool

    @classmethod
    def of(cls, live: LiveFilter, phase: str) -> Hook | None:
        call = getattr(live.instance, phase, None)
        return None if call is None else cls(live, phase, call, inspect.iscoroutinefunction(call))


@dataclass(frozen=True, slots=True)
class Phase:
    hooks: tuple[Hook, ...]
    waits: bool

    async def ask(self, fits: Callable[[Any], bool], timeout: float, *arguments: object) -> Any:
        """The first answer that is not None. `fits` says whether it is one. Raises FilterFailed.

        Where nobody waits this never suspends, so it may be driven without a task.
        """
        hook: Hook | None = None
        try:
            async with asyncio.timeout(timeout) if self.waits else nullcontext():
                for hook in self.hooks:
                    answer = await _call(hook, fits, arguments)
                    if answer is not None:
                        return answer
        except TimeoutError:
            assert hook is not None
            hook.filter.report(hook.phase, f"no answer within {timeout:g} s", None)
            raise FilterFailed(504, "filter_timeout") from None
        return None


async def _call(hook: Hook, fits: Callable[[Any], bool], arguments: tuple[object, ...]) -> Any:
    try:
        answer = hook.call(*arguments)
        if hook.asynchronous:
            answer = await answer
            _heed_cancellation()
        if answer is not None and not fits(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError(f"{hook.phase} gave back {answer!r}, which is no answer to it")
    except Exception as error:  # whatever a stranger's code raises ends this one request
        if hook.asynchronous:
            _heed_cancellation()
        hook.filter.report(hook.phase, f"{type(error).__name__}: {error}", error)
        raise FilterFailed(500, "filter_failed") from error
    return answer


def _heed_cancellation() -> None:
    """Who was told to stop (its client left, its time is over) and made something else of it, is stopped all the same:
    there is no request any more that it could answer."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Chain:
    """What the filters of a listener and then those of a rule do. Answers meet them in the opposite order."""

    __slots__ = ("filters", "intercepts", "on_log", "on_request", "on_response", "on_upstream_request", "pick", "waits")

    def __init__(self, filters: Sequence[LiveFilter]) -> None:
        self.filters = tuple(filters)
        phases = {phase: _phase(self.filters, phase) for phase in PHASES}
        self.on_request, self.pick = phases["on_request"], phases["pick"]
        self.on_upstream_request, self.on_log = phases["on_upstream_request"], phases["on_log"]
        self.on_response = _phase(self.filters[::-1], "on_response")
        before = (self.on_request, self.pick, self.on_upstream_request)
        self.waits = any(phase.waits for phase in before)  # before the request is sent
        self.intercepts = any(phase.hooks for phase in (*before, self.on_response))

    def log(self, record: AccessRecord, counters: ListenerCounters) -> None:
        for hook in self.on_log.hooks:
            try:
                if not hook.asynchronous:
                    hook.call(record)
                elif not hook.filter.begin(hook.call(record)):
                    counters.failed["filter_log_dropped"] += 1
            except Exception as error:  # noqa: BLE001 - a stranger's code; the request is over, so this ends nothing
                counters.failed["filter_failed"] += 1
                hook.filter.report(hook.phase, f"{type(error).__name__}: {error}", error)


def _phase(filters: Sequence[LiveFilter], phase: str) -> Phase:
    hooks = tuple(filter(None, (Hook.of(live, phase) for live in filters)))
    return Phase(hooks, any(hook.asynchronous for hook in hooks))


def chain_of(spec: ListenerSpec, rule: RuleSpec | None, known: Mapping[FilterSpec, LiveFilter]) -> Chain | None:
    """None where nothing is configured, or where nobody runs the filters (addresses that are held for workers)."""
    wanted = spec.filters if rule is None else (*spec.filters, *rule.filters)
    found = [known[each] for each in wanted if each in known]
    return Chain(found) if found else None


class Reports:
    """Whether a failure is to be told with its traceback, and how many were not."""

    __slots__ = ("_next", "_untold")

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, name: str, phase: str, what: str, error: BaseException | None) -> None:
        now = time.monotonic()
        if now < self._next.get(phase, 0.0):
            self._untold[phase] = self._untold.get(phase, 0) + 1
            return
        self._next[phase] = now + REPORT_INTERVAL
        untold = self._untold.pop(phase, 0)
        more = f" (and {untold} failures since the last that was told)" if untold else ""
        logger.error("filter %s, %s: %s%s", name, phase, what, more, exc_info=error)
