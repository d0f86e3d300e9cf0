"""One request on its way: chosen for, sent, tried again, answered, counted; whatever protocol its client speaks.

The client's side derives from it and moves the bytes. Every request is counted and logged exactly once, in `_settle`,
however it ends.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import TYPE_CHECKING

from .actions import with_fields
from .client_side import ClientSide
from .counters import DURATION_BUCKETS
from .dialing import connect_failure
from .filter_chain import FilterFailed
from .filtering import Filtered
from .http_fields import BadMessage
from .plan import Asked, Route
from .queueing import NoPlace, place_on
from .records import NO_TLS
from .retry import IDEMPOTENT, backoff
from .specs import FixedResponse
from .upstream import DeniedError, Upstream, connect

if TYPE_CHECKING:
    from .http1 import RequestHead, ResponseHead
    from .listener import Listener
    from .plan import Plan
    from .server_names import HostGuard
    from .specs import ListenerLimits
    from .targets import Observer, Target, TargetGroup
    from .usual_lines import Place

# What cannot be sent again goes out on a kept connection only if that was in use within the last second: targets that
# close first do so after two seconds (gunicorn) or five (uvicorn, Node), whatever they say of it.
FRESH = 1.0

REFUSED = Route("rate limit", FixedResponse(429), None)

# A connection or stream that ended before its answer; another target may do better. Nonsense would be repeated.
BROKEN = frozenset(("target_closed", "target_reset_stream", "target_goaway"))
NOT_ITS_FAULT = frozenset(("target_denied", "target_drained"))  # reasons that say nothing against the target


class Exchange(ClientSide):
    """Abstract: see `ClientSide`."""

    __slots__ = (
        "_awaited",
        "_began",
        "_body_from",
        "_connecting",
        "_finished",
        "_mended",
        "_repeats",
        "_replay",
        "_slow_for",
        "_started",
        "_wait",
        "connection_id",
        "deadline",
        "denied_by",
        "filtered",
        "group",
        "head",
        "http10",
        "listener",
        "local",
        "method",
        "peer",
        "persist",
        "place",
        "reason",
        "received",
        "request_id",
        "request_time",
        "route",
        "sending",
        "sent",
        "simple",
        "status",
        "target",
        "target_status",
        "target_time",
        "tls",
        "trailers_wanted",
        "upstream",
        "uri",
    )

    version = b"HTTP/1.1"  # for the log

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.peer: tuple[str, int] = ("", 0)
        self.local: tuple[str, int] = ("", 0)
        self.tls = NO_TLS
        self.connection_id = ""  # while there is an access log and a tracer
        self.place: Place | None = None  # what all lines of the access log say of the client's connection
        self.deadline = 0.0
        self.persist = True  # another request may follow on the client's connection
        self.head: RequestHead | None = None
        self.method = self.uri = b""
        self.request_id = b""  # by the listener's tracer, if it has one
        self.http10 = False
        self.simple = False  # HTTP/1.1, the connection stays, not HEAD: `ResponseHead.whole` fits
        self.trailers_wanted = False  # the client takes fields after the body
        self.sending = False  # the request's body is not complete yet
        self.route: Route | None = None
        self.group: TargetGroup | None = None
        self.target: Target | None = None
        self.upstream: Upstream | None = None
        self.filtered: Filtered | None = None  # while a request is under way whose route has filters
        self._awaited: Target | None = None  # who is being connected to, and counts this request as in flight
        self._connecting: asyncio.Task[None] | None = None
        self._replay: bytes | None = None  # the whole request, while it may be sent again
        self._mended = False  # it was sent again because a kept connection was none any more
        self._repeats = 0  # how often it was sent to another target, each of them held by the group's budget
        self._wait: tuple[str, int] | None = None  # why a rate limit refuses it, and for how many seconds
        self.reason = ""
        self.denied_by = ""  # the rule that kept us from the target
        self.status = self.target_status = 0
        self.received = self.sent = 0
        self.request_time = self.target_time = -1.0
        self._body_from = 0  # what of `received` came before the body
        self._slow_for = 0.0  # seconds that the body was waited for
        self._started = 0.0
        self._began = False  # its answer
        self._finished = True  # it is counted and logged

    def unwraps(self) -> bool:
        """Whether the client wants a body's content without the frames of HTTP/1."""
        return self.http10

    # -- choosing and connecting ----------------------------------------------------------------------------------

    def _choose(self, plan: Plan, head: RequestHead) -> Route:
        listener = self.listener
        if listener.rates is not None:
            self._wait = listener.rates.refuse(self.peer[0], self.uri, head, listener.clock.exact())
            if self._wait is not None:
                return REFUSED
        route = plan.route(self.method, self.uri, head, self.peer[0])
        self.listener.counters.rule_hits[route.label] += 1
        return route

    def _draw(self, route: Route) -> TargetGroup | None:
        """One of several groups by weight, or None when the answer is ours, or filters come before."""
        return None if route.filters is not None else self._drawn(route)

    def _drawn(self, route: Route) -> TargetGroup | None:
        if route.weighted is None:
            return None
        if route.sticky is None:
            return route.draw(self.listener.rng)
        assert self.head is not None
        self.simple = False  # the answer gets a cookie
        return route.drawn_before(self.head) or route.draw(self.listener.rng)

    def _pick_for_client(self, group: TargetGroup) -> Target | None:
        """The target that the client had, or that its key is hashed to. A request without the key goes to anyone."""
        assert self.head is not None
        if group.sticky is not None:
            self.simple = False  # the answer may get a cookie
            before = group.sticky.find(self.head, self.peer[0])
            if before is not None:
                return before
        if group.hash_key is None:
            return group.pick()
        key = group.hash_key.of(self.peer[0], self.uri, self.head.values)
        return group.pick() if key is None else group.pick_for(key)

    def _cookies(self, answer: ResponseHead) -> bytes:
        """Lines for the answer's head that bring this client back to where it was."""
        group, target, head, route = self.group, self.target, self.head, self.route
        if group is None or target is None or head is None or route is None:
            return b""
        secure = self.listener.secure
        lines = b"" if group.sticky is None else group.sticky.lines(target, head, answer.forward, secure=secure)
        return lines if route.sticky is None else lines + route.sticky.line(group.name, head, secure=secure)

    def _may_reuse(self, upstream: Upstream) -> bool:
        """Whether a kept connection will do for this request, should the target be closing it just now."""
        if self._replay is not None and self.method in IDEMPOTENT:
            return True
        return self.listener.clock.now - upstream.idle_since < FRESH

    def _filter(self, route: Route, forward: bytes, tail: bytes, body: bytes = b"") -> None:
        """The route's filters decide first; `forward` and `tail` are the head, `body` what came with it."""
        self.target = None  # the one of the request before has no part in this
        self.simple = False  # its answer may be changed
        self.filtered = Filtered(self, route, forward, tail, body)
        self.filtered.begin()

    def _answer_ourselves(self) -> None:
        route, head, listener = self.route, self.head, self.listener
        assert route is not None
        assert head is not None
        self.target = None  # the one of the request before has no part in this
        if self.http10:
            self.persist = False
        if self._wait is not None:
            (reason, seconds), self._wait, self.route = self._wait, None, None
            self.reason = reason
            refusal = listener.error_response(429, close=not self.persist, head=self.method == b"HEAD")
            self._respond(429, with_fields(refusal, b"Retry-After: %d\r\n" % seconds))
            return
        answer = route.answer(
            Asked(self.method, self.uri, head.host, self.local[1], listener.secure),
            date=listener.clock.date,
            close=not self.persist,
        )
        if answer is None:
            self._fail(503, "no_target")
        else:
            self._respond(*answer)

    def _lend(self, target: Target, message: bytes) -> None:
        """Send over a kept connection, else over a new one. `target` is counted as in flight."""
        if not (target.idle and self._may_reuse(target.idle[-1])):  # type: ignore[arg-type]
            self._connect(target, message)
            return
        self._send_over(target.idle.pop(), target, message)  # type: ignore[arg-type]  # only Upstreams are kept idle

    def _send_over(self, upstream: Upstream, target: Target, message: bytes) -> None:
        self.upstream = upstream
        upstream.session = self if self.filtered is None else self.filtered.reader()
        upstream.transport.write(message)
        target.counters.requests += 1
        target.counters.bytes_out += len(message)
        self.request_time = perf_counter() - self._started

    def _connect(self, target: Target, message: bytes, delay: float = 0.0) -> None:
        self._hold_back()
        loop = asyncio.get_running_loop()
        self._awaited = target
        self._connecting = loop.create_task(self._connect_and_send(target, message, delay))

    async def _connect_and_send(self, target: Target, message: bytes, delay: float) -> None:
        """Open a connection and send; on refusal another target has a try, for the one that refused has seen nothing
        of the request. `target` is counted as in flight."""
        group = target.group
        upstream: Upstream | None = None
        status, reason = 502, "connect_failed"
        tries = 1 + group.spec.retries.attempts
        for attempt in range(tries):
            try:
                if delay:
                    await asyncio.sleep(delay)
                    delay = 0.0
                if target.in_flight > target.max_connections:
                    self._awaited = None  # who waits for a place is not in flight
                    target, upstream = await place_on(target)
                    self.target = self._awaited = target
                if self.filtered is not None:
                    if upstream is not None and not self.filtered.was_made_for(target):
                        upstream.close()  # nobody would watch it while a filter thinks
                    message = await self.filtered.message_for(target)
                if upstream is None or upstream.transport.is_closing():
                    upstream = None
                    upstream = await connect(target, self.listener.clock, self.peer, self.local)
                break
            except NoPlace as full:
                self._connecting = None
                target.counters.failed[full.reason] += 1
                self._fail(503, full.reason)
                return
            except FilterFailed as failed:
                self._connecting = self._awaited = None
                target.leave()
                self._fail(failed.status, failed.reason)
                return
            except TimeoutError:
                status, reason = 504, "connect_timeout"
            except DeniedError as denied:
                status, reason = 503, "target_denied"
                self._denied(denied.rule)
            except OSError as error:
                status, reason = 502, connect_failure(error)
            target.leave()
            target.counters.failed[reason] += 1
            if target.observer is not None and reason != "target_denied":
                target.observer(0, 0.0, perf_counter())
            other = group.pick_besides(target)
            if attempt + 1 == tries or other is None or other.denied is not None:
                break
            target = self.target = self._awaited = other
            target.in_flight += 1
        self._connecting = self._awaited = None
        if upstream is None:
            self._fail(status, reason)
            return
        self._send_over(upstream, target, message)
        self._send_ahead(upstream)
        self._let_on()
        self.deadline = self.listener.clock.now + self._patience(group)

    def _patience(self, group: TargetGroup) -> float:
        """How long the next thing may take: more of the client's body, or else the target's answer."""
        return self.listener.limits.idle_timeout if self.sending else group.response_timeout

    def response_fails(self, reason: str, *, began: bool) -> None:
        """The upstream connection ended before its answer did."""
        upstream, self.upstream = self.upstream, None
        assert upstream is not None
        target = upstream.target
        if began:
            self._abort(reason)
        elif not self._repeatable or reason not in BROKEN:
            self._fail(502, reason)
        elif upstream.reused and not upstream.received and not target.draining and not self._mended:
            # A kept connection that the target closed as we used it: nobody's fault, and one fresh try mends it. It
            # asks no budget, for no target has done anything yet.
            self._mended = True
            self._repeat(target, 0.0)
        elif not self._elsewhere(target):
            self._fail(502, reason)

    def repeats_instead(self, status: int) -> bool:
        """The target answers 502, 503 or 504: whether another one is asked and this answer dropped."""
        upstream = self.upstream
        assert upstream is not None
        target = upstream.target
        if status not in target.group.spec.retries.statuses or not self._repeatable or not self._elsewhere(target):
            return False
        target.counters.responses[5] += 1
        self.upstream = None
        upstream.let_go()
        return True

    @property
    def _repeatable(self) -> bool:
        """All of the request is at hand, nothing of an answer was relayed, and to do it twice is to do it once."""
        return self._replay is not None and not self.sent and self.method in IDEMPOTENT

    def _elsewhere(self, tried: Target) -> bool:
        """Send the request to another target than `tried`, if there is one and the budget has room."""
        group = tried.group
        spec = group.spec.retries
        other = group.pick_besides(tried) if self._repeats < spec.attempts else None
        if other is None or other.denied is not None:
            return False
        if not group.budget.take(spec, group.in_flight):
            tried.counters.failed["retry_budget_spent"] += 1
            return False
        self._repeats += 1
        self.target = other
        self._repeat(other, backoff(spec, self._repeats, self.listener.rng.random()))
        return True

    def _repeat(self, target: Target, delay: float) -> None:
        assert self._replay is not None
        self.simple = False  # it ends in `_settle`, which knows of repetitions
        target.counters.retries += 1
        target.in_flight += 1
        self._connect(target, self._replay, delay)

    def _end_repeats(self) -> None:
        if self._repeats and self.group is not None:
            self.group.budget.give_back(self._repeats)
            self._repeats = 0

    def _denied(self, rule: str) -> None:
        self.denied_by = rule
        self.listener.counters.denied[rule] += 1

    def _check_host(self, guard: HostGuard, head: RequestHead) -> None:
        """BadMessage for a host that is another tenant's; the request has a name then, for somebody to ask why."""
        try:
            guard.check(head.host)
        except BadMessage:
            method, uri = self.method, self.uri
            self._forget()  # what is logged of it must not be the request before
            self.method, self.uri, self.head = method, uri, head
            if self.listener.tracer is not None:
                _, self.request_id, _ = self.listener.tracer.stamp(head)
            raise

    def _check_length(self, route: Route, head: RequestHead) -> None:
        if route.body_limit and head.length > route.body_limit:
            self.target = None
            raise BadMessage(413, "body_too_large")

    # -- accounts -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Count and log the request, once."""
        self._finished = True
        self._mended = False
        if self._repeats:
            self._end_repeats()
        counters = self.listener.counters
        duration = perf_counter() - self._started
        status = self.status
        counters.responses[status // 100 if status != 460 else 0] += 1
        counters.duration_sum += duration
        counters.duration_count[bisect_left(DURATION_BUCKETS, duration)] += 1
        if self.reason:
            counters.failed[self.reason] += 1
        target = self.target
        if target is not None and target.observer is not None:
            self._observe(target.observer, duration)
        if self.request_id:
            self.listener.recent.add(self)
        if self.listener.access_log is not None:
            self.listener.log_request(self, duration)
        if self.filtered is not None:
            self.filtered.leave()
            self.filtered = None

    def _observe(self, observer: Observer, duration: float) -> None:
        """Tell of an answer or a failure of the target's. Failed connections were told of as they failed."""
        if self.reason.startswith("target_") and self.reason not in NOT_ITS_FAULT:
            observer(0, duration, perf_counter())
        elif self.target_status:
            observer(self.target_status, self.target_time, perf_counter())

    def _give_up(self) -> None:
        """Nobody waits for the answer any more, or will: the upstream is let go, a connection attempt cancelled."""
        if self._connecting is not None:
            # It may never have begun to run, so what it would have undone is undone here.
            self._connecting.cancel()
            self._connecting = None
            if self._awaited is not None:
                self._awaited.leave()
                self._awaited = None
        if self.upstream is not None:
            upstream, self.upstream = self.upstream, None
            upstream.let_go()

    def _time_out(self, *, held_back: bool, stalled: bool) -> None:
        """The deadline has passed: the client's fault where it reads nothing (`stalled`) or its body is awaited, else
        the target's. A client that is held back cannot send."""
        waits_for_client = self.sending and not held_back
        self._give_up()
        if self.target is not None and not (stalled or waits_for_client):
            self.target.counters.failed["target_timeout"] += 1
        if stalled:
            self._abort("client_stalled")
        elif self._began:
            self._abort("body_timeout" if waits_for_client else "target_timeout")
        elif waits_for_client:
            self._fail(408, "body_timeout")
        else:
            self._fail(504, "target_timeout")

    def _review(self, limits: ListenerLimits, elapsed: float, *, held_back: bool) -> None:
        """Once a second: what no deadline of one step can see, the whole request, and how slowly its body drips."""
        patience = self.route.request_timeout if self.route is not None else limits.request_timeout
        if patience and perf_counter() - self._started >= patience:
            self._end_late("request_timeout", 504)
        elif self.sending and not held_back and limits.body_rate:
            self._slow_for += elapsed
            if self._slow_for > limits.body_rate_grace:
                came = self.received - self._body_from
                if came < limits.body_rate * self._slow_for:
                    self._end_late("body_too_slow", 408)

    def _end_late(self, reason: str, status: int) -> None:
        self._give_up()
        if self._began:
            self._abort(reason)
        else:
            self._fail(status, reason)

    def _forget(self) -> None:
        """Nothing of the request before this one is true of it."""
        self.head = None
        self.method = self.uri = self.request_id = b""
        self.target = self.route = self.group = None
        self.reason = self.denied_by = ""
        self.status = self.target_status = self.received = self.sent = 0
        self.request_time = self.target_time = -1.0
