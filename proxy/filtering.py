"""One request's way through the filters of its route: before it is sent, at its target, and with its answer.

The request's side is one coroutine. Where no filter waits it is driven to its end on the spot, and the request goes the
way of every other; else it is a task, what the client sends meanwhile is held, and giving the request up cancels it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .edits import RewriteError
from .filter_chain import Chain, FilterFailed
from .filters import Request, Response, TargetResponse

if TYPE_CHECKING:
    from .exchange import Exchange
    from .http1 import ResponseHead
    from .listener import Listener
    from .log_lines import AccessRecord
    from .plan import Route
    from .targets import Target, TargetGroup


class Filtered:
    """`body` is what is there of the request's body already; where that is all of it, the request may be repeated."""

    __slots__ = ("_body", "_forward", "_made_for", "_message", "_outgoing", "_tail", "chain", "exchange", "request")

    def __init__(self, exchange: Exchange, route: Route, forward: bytes, tail: bytes, body: bytes) -> None:
        assert route.filters is not None
        self.chain: Chain = route.filters
        self.exchange = exchange
        # The head ends inside X-Forwarded-For, which is the tail's to complete and nobody's to change.
        fields, _, self._forward = forward.rpartition(b"\r\n")
        self._tail = tail
        self._body = body
        self._outgoing = (b"", b"")
        self._made_for: Target | None = None
        self._message = b""
        listener = exchange.listener
        self.request = Request(
            exchange.method,
            exchange.uri,
            fields,
            client=exchange.peer,
            scheme="https" if listener.secure else "http",
            listener=listener.spec.key,
            rule=route.label,
            request_id=exchange.request_id,
        )
        for live in self.chain.filters:
            live.users += 1

    def leave(self) -> None:
        """The request is counted and logged."""
        for live in self.chain.filters:
            live.leave()

    # -- before the request is sent -----------------------------------------------------------------------------------

    def begin(self) -> None:
        exchange = self.exchange
        if not self.chain.waits:
            _drive(self._send())
            return
        # What the client sends meanwhile is kept up to a limit, as when it sends ahead; so it is seen when it leaves.
        exchange.deadline = math.inf  # every phase has a timeout of its own
        exchange._connecting = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        exchange = self.exchange
        try:
            decided = await self._decide()
        except FilterFailed as failed:
            self._waited()
            exchange._fail(failed.status, failed.reason)
            return
        except RewriteError:
            self._waited()
            exchange._fail(500, "rewrite_failed")
            return
        self._waited()
        if isinstance(decided, Response):
            self.answer(decided)
            return
        target, group = decided, exchange.group
        exchange.target = target
        if group is None:
            if exchange.sending:
                exchange.persist = False  # nobody reads the rest of its body
            exchange._answer_ourselves()
        elif target is None:
            exchange._fail(503, "no_target")
        elif target.denied is not None:
            exchange._denied(target.denied.rule)
            exchange._fail(503, "target_denied")
        else:
            if exchange._replay is not None:
                exchange._replay = self._message
            exchange.deadline = exchange.listener.clock.now + exchange._patience(group)
            target.in_flight += 1
            exchange._lend(target, self._message)
            if exchange.upstream is not None:
                exchange._send_ahead(exchange.upstream)
                exchange._let_on()

    async def _decide(self) -> Response | Target | None:
        """An answer, or the target to send to; the exchange's group is set where the action is to forward."""
        exchange, route = self.exchange, self.exchange.route
        assert route is not None
        if self.chain.on_request.hooks:
            answer = await self.chain.on_request.ask(_is_response, self._timeout, self.request)
            if answer is not None:
                return answer
        group = exchange.group = exchange._drawn(route)
        if group is None:
            return None
        uri, fields = self.request.on_the_wire()
        forward = b"%b\r\n%b" % (fields, self._forward) if fields else self._forward
        if route.edits is not None:
            uri, forward = route.edits.request(uri, forward)
        self._outgoing = (uri, (forward + self._tail)[: -len(b"\r\n\r\n")])
        target = await self._pick(group)
        if target is not None and target.denied is None:
            await self.message_for(target)
        return target

    async def _pick(self, group: TargetGroup) -> Target | None:
        candidates = group.candidates if self.chain.pick.hooks else ()
        if candidates:
            chosen = await self.chain.pick.ask(candidates.__contains__, self._timeout, self.request, candidates)
            if chosen is not None:
                return chosen
        return self.exchange._pick_for_client(group)

    async def message_for(self, target: Target) -> bytes:
        """What is sent to this target: where another one is tried, its filters see the request as it was before."""
        if self._made_for is not target:
            request = self.request
            request.becomes(*self._outgoing)
            if self.chain.on_upstream_request.hooks:
                await self.chain.on_upstream_request.ask(_nothing, self._timeout, request, target)
            uri, block = request.on_the_wire()
            method = self.exchange.method
            self._message = b"%b %b HTTP/1.1\r\n%b\r\n\r\n%b" % (method, uri, block, self._body)
            self._made_for = target
        return self._message

    def was_made_for(self, target: Target) -> bool:
        return self._made_for is target

    @property
    def _timeout(self) -> float:
        return self.exchange.listener.limits.filter_timeout

    def _waited(self) -> None:
        if self.chain.waits:
            self.exchange._connecting = None

    # -- answers ------------------------------------------------------------------------------------------------------

    def answer(self, response: Response) -> None:
        """A filter's own, in place of a target's."""
        exchange = self.exchange
        if exchange.sending or exchange.http10:
            exchange.persist = False
        message = response.message(
            exchange.listener.clock.date, close=not exchange.persist, head=exchange.method == b"HEAD"
        )
        exchange._respond(response.status, message)

    def reader(self) -> Exchange:
        """Who is told of the target's answer: the exchange itself, unless filters want to see it before."""
        if not self.chain.on_response.hooks:
            return self.exchange
        return AnswerFilter(self)  # type: ignore[return-value]  # to who reads the answer it looks like an exchange


class AnswerFilter:
    """Stands between an exchange and its upstream. While a filter thinks, the target is not read from, and what came
    already is kept and told afterwards, in its order."""

    __slots__ = ("_exchange", "_filtered", "_kept")

    simple = joins = False  # to the upstream: head and body are told one after the other

    def __init__(self, filtered: Filtered) -> None:
        self._filtered = filtered
        self._exchange = filtered.exchange
        self._kept: list[tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exchange, name)

    def response_begins(self, head: ResponseHead) -> None:
        exchange = self._exchange
        if not self._filtered.chain.on_response.waits:
            _drive(self._filter(head))
            return
        self._kept = []
        assert exchange.upstream is not None
        exchange.upstream.transport.pause_reading()
        exchange.deadline = math.inf  # the phase has a timeout of its own
        exchange._connecting = asyncio.get_running_loop().create_task(self._filter(head))

    def response_body(self, data: bytes) -> None:
        self._tell(self._exchange.response_body, data)

    def response_trailers(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self._tell(self._exchange.response_trailers, trailers)

    def response_ends(self) -> None:
        if self._kept is not None:
            self._resume()
            self._exchange.upstream = None  # it is free for another request
        self._tell(self._exchange.response_ends)

    def response_fails(self, reason: str, *, began: bool) -> None:
        self._tell(self._exchange.response_fails, reason, began=began)

    def _resume(self) -> None:
        upstream = self._exchange.upstream
        if upstream is not None and not upstream.transport.is_closing():
            upstream.transport.resume_reading()

    def _tell(self, event: Callable[..., None], *arguments: Any, **named: Any) -> None:
        if self._kept is None:
            event(*arguments, **named)
        else:
            self._kept.append((event, arguments, named))

    async def _filter(self, head: ResponseHead) -> None:
        exchange, chain = self._exchange, self._filtered.chain
        response = TargetResponse(head.forward)
        answer: Response | FilterFailed | None
        try:
            answer = await chain.on_response.ask(
                _is_response, exchange.listener.limits.filter_timeout, self._filtered.request, response
            )
        except FilterFailed as failed:
            answer = failed
        kept, self._kept = self._kept, None
        if kept is not None:
            exchange._connecting = None
        if answer is not None:
            if exchange.upstream is not None:
                upstream, exchange.upstream = exchange.upstream, None
                upstream.let_go()
            if isinstance(answer, Response):
                self._filtered.answer(answer)
            else:
                exchange._fail(answer.status, answer.reason)
            return
        if kept is not None:
            self._resume()
        exchange.response_begins(_changed(head, response))
        for event, arguments, named in kept or ():
            if exchange._finished:  # its client is gone
                return
            event(*arguments, **named)


def tell_filters(listener: Listener, exchange: Exchange, record: AccessRecord) -> None:
    """The request is over. Who began with it hears its end; who has a part in the log alone is who is there now."""
    filtered, route = exchange.filtered, exchange.route
    chain = filtered.chain if filtered is not None else listener.plan.chain(None if route is None else route.label)
    if chain is not None:
        chain.log(record, listener.counters)


def _changed(head: ResponseHead, response: TargetResponse) -> ResponseHead:
    forward = response.on_the_wire()
    if forward == head.forward:
        return head
    return replace(head, status=response.status, forward=forward, whole=forward + head.whole[len(head.forward) :])


def _is_response(answer: object) -> bool:
    return isinstance(answer, Response)


def _nothing(answer: object) -> bool:
    return answer is None


def _drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run to its end what never waits, without a task."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("a filter that does not wait waited")
