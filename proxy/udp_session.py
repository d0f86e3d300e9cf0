"""UDP: a listening socket drained in bursts, and a flow for each client that sends to it.

A flow is what a connection is elsewhere: one client address and port at one of ours, one target, counted, logged, and
over when it was silent for a while. It has a socket of its own, connected to its target, so that the kernel sorts the
answers. The loop only says that a socket is readable; asyncio's datagram transports cost several times the work.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections import OrderedDict
from collections.abc import ValuesView
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .access_log import AccessLog
from .binding import udp_socket
from .clock import Clock
from .counters import ListenerCounters
from .firewall import Firewall
from .intake import OUT_OF_DESCRIPTORS, TOO_MANY_IN_ALL, Intake
from .proxy_protocol import Endpoint, build
from .records import denial_record, flow_record, refusal_record
from .sharing import Sharing
from .specs import ListenerSpec

if TYPE_CHECKING:
    from .firewall import Verdict
    from .plan import Plan
    from .targets import Target, TargetGroup
    from .tls import ServerContext

BURST = 64  # datagrams before the loop gets its turn back
DRAIN_TIME = 5.0  # a datagram has no end that one could wait for: an answer that is under way gets this long
MAX_TOLD = 1024  # sources whose denial is logged in one second; all are counted

_DATAGRAM = 65536  # no datagram is longer
_ANCILLARY = 64  # room for in6_pktinfo
_BUFFER = bytearray(_DATAGRAM)  # one loop, and nothing is kept: each datagram is sent on before the next is read
_VIEW = memoryview(_BUFFER)

Ancillary = list[tuple[int, int, bytes]]
FlowKey = tuple[Any, bytes]  # the client as the kernel writes it, and which of our addresses it sent to


class UdpListener:
    __slots__ = (
        "_flows",
        "_loop",
        "_predecessor",
        "_socket",
        "_told",
        "_wildcard",
        "access_log",
        "bound",
        "clock",
        "context",
        "counters",
        "draining",
        "firewall",
        "handshakes",
        "intake",
        "plan",
        "rng",
        "secure",
        "spec",
    )

    def __init__(self, spec: ListenerSpec, clock: Clock, rng: random.Random, access_log: AccessLog | None) -> None:
        self.spec = spec
        self.clock = clock
        self.rng = rng
        self.access_log = access_log
        self.counters = ListenerCounters()
        self.handshakes: set[asyncio.Task[None]] = set()  # there are none
        self.intake = Intake()  # the proxy has one for all its listeners
        self.secure = False
        self.context: ServerContext | None = None
        self.draining = False
        self.bound: Endpoint = (spec.address, spec.port)
        self.plan: Plan
        self.firewall: Firewall
        self._flows: OrderedDict[FlowKey, UdpFlow] = OrderedDict()  # the one that was silent longest comes first
        self._told: set[str] = set()
        self._loop = asyncio.get_running_loop()
        self._wildcard = spec.address in ("0.0.0.0", "::")
        self._socket: socket.socket | None = None
        self._predecessor: UdpListener | None = None

    @property
    def connections(self) -> ValuesView[UdpFlow]:
        return self._flows.values()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def bind(self, predecessor: UdpListener | None, sharing: Sharing) -> None:
        """Take the address without reading yet, or share that of one that drains. OSError names the address.

        A UDP socket cannot be reserved: the kernel would give it a share of the datagrams. So it is only made sure that
        the port is free.
        """
        if predecessor is None or predecessor._socket is None:
            self._socket = udp_socket(self.spec, sharing)
        else:
            self._socket = predecessor._socket.dup()
            self._predecessor = predecessor
        self.bound = self._socket.getsockname()[:2]
        if sharing == "reserved":
            self._socket.close()
            self._socket = None

    def start(self) -> None:
        if self._socket is None:
            return
        if self._predecessor is not None:  # two readers would share out the datagrams
            self._predecessor.abort()
            self._predecessor = None
        self._loop.add_reader(self._socket.fileno(), self._readable, self._socket)

    def use_access_log(self, access_log: AccessLog | None) -> None:
        self.access_log = access_log

    def become(self, spec: ListenerSpec, plan: Plan, firewall: Firewall, context: ServerContext | None) -> None:
        """One new configuration, for all flows that begin from now on."""
        self.spec = spec
        self.plan = plan
        self.firewall = firewall

    def close(self) -> None:
        """No new flows. Those there are may hear their answer; the last one takes the socket with it."""
        self.draining = True
        latest = self.clock.now + DRAIN_TIME
        for flow in self._flows.values():
            flow.deadline = min(flow.deadline, latest)
        self._close_if_over()

    def abort(self) -> None:
        for flow in list(self._flows.values()):
            flow.end("aborted")

    def _close_if_over(self) -> None:
        if self.draining and not self._flows and self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _readable(self, sock: socket.socket) -> None:
        flows = self._flows
        for _ in range(BURST):
            try:
                if self._wildcard:
                    size, ancillary, _, client = sock.recvmsg_into([_BUFFER], _ANCILLARY)
                else:
                    size, client = sock.recvfrom_into(_BUFFER)
                    ancillary = []
            except OSError:  # BlockingIOError: drained. What ICMP says of clients that are gone is theirs to bear
                return
            key: FlowKey = (client, ancillary[0][2] if ancillary else b"")
            flow = flows.get(key)
            if flow is None:
                flow = self._open(key, client, ancillary)
                if flow is None:
                    continue
            flow.forward(_VIEW[:size])

    def _open(self, key: FlowKey, client: Any, ancillary: Ancillary) -> UdpFlow | None:
        """A client that is new: judged, given a target and a socket. None: it was refused, and that is counted."""
        source: Endpoint = client[:2]
        local = (_destination(ancillary) or self.bound[0], self.bound[1])
        if self.draining:
            return None
        verdict = self.firewall.arrival(source[0], source[1], local[0], local[1])
        if not verdict.allowed:
            self._deny(source, verdict)
            return None
        route = self.plan.default
        group = route.group if route.weighted is None else route.draw(self.rng)
        target, verdict = (None, None) if group is None else _allowed_target(group, source[0].encode())
        if target is None:
            if verdict is not None:
                self.counters.denied[verdict.rule] += 1
            self._refuse(source, "no_target" if verdict is None else "target_denied")
            return None
        if not self.intake.has_room():
            self._refuse(source, TOO_MANY_IN_ALL)
            return None
        while len(self._flows) >= self.spec.limits.flows:
            next(iter(self._flows.values())).end("flow_limit")
        try:
            sock = _connected(target)
        except OSError as error:
            out_of_descriptors = error.errno in (errno.EMFILE, errno.ENFILE)
            reason = "accept_failed" if out_of_descriptors else "connect_failed"
            target.counters.failed[reason] += not out_of_descriptors
            self._refuse(source, reason)
            return None
        if sock.fileno() >= self.intake.full_from:
            sock.close()
            self._refuse(source, OUT_OF_DESCRIPTORS)
            return None
        denial = _return_denied(target, sock)
        if denial is not None:
            sock.close()
            self.counters.denied[denial.rule] += 1
            self._refuse(source, "target_denied")
            return None
        flow = self._flows[key] = UdpFlow(self, key, target, sock, client, local, ancillary)
        self.counters.accepted += 1
        self.counters.active += 1
        self.counters.requests += 1
        self._loop.add_reader(sock.fileno(), flow.answered)
        return flow

    def _deny(self, source: Endpoint, verdict: Verdict) -> None:
        self.counters.denied[verdict.rule] += 1
        if self._tells(source):
            assert self.access_log is not None
            self.access_log.add(denial_record(self, source, verdict))

    def _refuse(self, source: Endpoint, reason: str) -> None:
        self.counters.failed[reason] += 1
        if self._tells(source):
            assert self.access_log is not None
            self.access_log.add(refusal_record(self, source, reason))

    def _tells(self, source: Endpoint) -> bool:
        """Whether to log a refusal: once a second of each source, or a flood of datagrams were a flood of lines."""
        if self.access_log is None or source[0] in self._told or len(self._told) >= MAX_TOLD:
            return False
        self._told.add(source[0])
        return True

    def touch(self, flow: UdpFlow) -> None:
        """The flow has just been used; at most once per tick of the clock there is anything to do."""
        if not self.draining:
            flow.deadline = self.clock.now + self.spec.limits.flow_timeout
            self._flows.move_to_end(flow.key)

    def send(self, flow: UdpFlow, size: int) -> None:
        """An answer. On a wildcard address it leaves from where the client sent to, or the client would not know it."""
        sock = self._socket
        if sock is None:
            return
        try:
            sock.sendmsg([_VIEW[:size]], flow.ancillary, 0, flow.client)
        except OSError:  # full buffers, a client whose network is gone: it asks again
            self.counters.failed["send_failed"] += 1
        else:
            flow.sent += size

    def release(self, flow: UdpFlow) -> None:
        del self._flows[flow.key]
        counters = self.counters
        counters.active -= 1
        counters.bytes_in += flow.received
        counters.bytes_out += flow.sent
        if flow.reason != "idle_timeout":
            counters.failed[flow.reason] += 1
        if self.access_log is not None:
            self.access_log.add(flow_record(self, flow, perf_counter() - flow.started))
        self._close_if_over()

    def sweep(self, now: float) -> None:
        self._told.clear()
        while self._flows:
            flow = next(iter(self._flows.values()))
            if flow.deadline > now:
                break
            flow.end("drained" if self.draining else "idle_timeout")
        for group in {flow.target.group for flow in self._flows.values()}:
            self._leave_unhealthy(group)

    def _leave_unhealthy(self, group: TargetGroup) -> None:
        """A TCP client sees its target fail and connects anew. A UDP client cannot, so its flow ends when another
        target is healthy (NLB terminates such flows too)."""
        sick = {target for target in group.targets if not _is_healthy(target)}
        if sick and any(not target.draining and target not in sick for target in group.targets):
            for flow in [flow for flow in self._flows.values() if flow.target in sick]:
                flow.end("target_unhealthy")

    def __repr__(self) -> str:
        return f"<UdpListener {self.spec.key}: {len(self._flows)} flows>"


class UdpFlow:
    __slots__ = (
        "_header",
        "_listener",
        "_socket",
        "ancillary",
        "client",
        "deadline",
        "idle_until",
        "key",
        "peer",
        "reason",
        "received",
        "sent",
        "started",
        "target",
    )

    def __init__(
        self,
        listener: UdpListener,
        key: FlowKey,
        target: Target,
        sock: socket.socket,
        client: Any,
        local: Endpoint,
        ancillary: Ancillary,
    ) -> None:
        self._listener = listener
        self._socket = sock
        self.key = key
        self.target = target
        self.client = client  # as the kernel writes it: for IPv6 with the scope
        self.peer: Endpoint = client[:2]
        self.ancillary = ancillary
        self.received = self.sent = 0
        self.reason = ""
        self.started = perf_counter()
        self.idle_until = 0.0
        self.deadline = listener.clock.now + listener.spec.limits.flow_timeout
        # Each datagram stands for itself, so each has the header, which is what servers of UDP expect.
        version = target.group.spec.proxy_protocol
        self._header = b"" if version is None else build(version, self.peer, local, datagram=True)
        target.in_flight += 1
        target.connections.add(self)
        target.counters.connects += 1
        target.counters.requests += 1

    def forward(self, datagram: memoryview) -> None:
        self.received += len(datagram)
        listener = self._listener
        if self.deadline < listener.clock.now + listener.spec.limits.flow_timeout:
            listener.touch(self)
        try:
            if self._header:
                self._socket.sendmsg((self._header, datagram))
            else:
                self._socket.send(datagram)
        except ConnectionRefusedError:  # ICMP said so of an earlier datagram: the next one goes to the next target
            self._refused()
        except OSError:  # full buffers, or too long for the way: UDP loses datagrams
            listener.counters.failed["send_failed"] += 1

    def answered(self) -> None:
        """The target has sent something."""
        listener = self._listener
        for _ in range(BURST):
            try:
                size = self._socket.recv_into(_BUFFER)
            except ConnectionRefusedError:
                self._refused()
                return
            except OSError:
                return
            if self.deadline < listener.clock.now + listener.spec.limits.flow_timeout:
                listener.touch(self)
            self.target.counters.bytes_in += size
            listener.send(self, size)

    def _refused(self) -> None:
        self.target.counters.failed["connect_failed"] += 1
        self.end("connect_failed")

    def end(self, reason: str) -> None:
        self.reason = reason
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        target = self.target
        target.leave()
        target.connections.discard(self)
        target.counters.bytes_out += self.received
        self._listener.release(self)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """The target's drain is over."""
        self.end("target_drained")

    def __repr__(self) -> str:
        return f"<UdpFlow {self.peer[0]}:{self.peer[1]} -> {self.target.key}>"


def _destination(ancillary: Ancillary) -> str | None:
    """Which of our addresses a datagram was sent to: in_pktinfo ends with it, in6_pktinfo begins with it."""
    if not ancillary:
        return None
    level, _, data = ancillary[0]
    if level == socket.IPPROTO_IPV6:
        return socket.inet_ntop(socket.AF_INET6, data[:16])
    return socket.inet_ntop(socket.AF_INET, data[8:12])


def _allowed_target(group: TargetGroup, client: bytes) -> tuple[Target | None, Verdict | None]:
    """A target that our own firewall lets us send to, or what it had against the last one."""
    denied = None
    for attempt in range(len(group.targets)):
        if attempt:
            target = group.pick()
        elif group.sticky is not None:
            target = group.sticky.of_source(client.decode()) or group.pick()
        else:
            target = group.pick() if group.hash_key is None else group.pick_for(client)
        if target is None:
            break
        if target.denied is None:
            return target, None
        denied = target.denied
    return None, denied


def _connected(target: Target) -> socket.socket:
    spec = target.spec
    sock = socket.socket(socket.AF_INET6 if ":" in spec.ip else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect((spec.ip, spec.port))  # sends nothing: it only fixes the address
    except OSError:
        sock.close()
        raise
    return sock


def _return_denied(target: Target, sock: socket.socket) -> Verdict | None:
    firewall = target.group.firewall
    if firewall is None or firewall.unguarded:
        return None
    local = sock.getsockname()
    verdict = firewall.opened(local[1], target.spec.ip, local[0])
    return None if verdict.allowed else verdict


def _is_healthy(target: Target) -> bool:
    return target.check_key is None or target.group.table.is_healthy(target.check_key)
