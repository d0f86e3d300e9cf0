"""Stickiness: which target a client had, told by a cookie that it brings or by its address. Pure.

A cookie names its target by a signature (HMAC-SHA-256 over group and address), never by address or number. So it is
the same in every process that has the key, after a reload and after a restart; nobody can make one; it tells nothing
of the network behind us; and to read it is one look-up among those of the targets that may be used now. When a target
goes its signature is no longer there, and whoever still brings it is given another one.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from math import log
from typing import Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from .http1 import RequestHead
from .specs import StickinessSpec

# ALB's names: it is what those who come from there look for. `-0` is ALB's too, of a cookie that may have parts.
APPLICATION_COOKIE = b"AWSALBAPP-0"
GROUP_COOKIE = b"AWSALBTG"

SIGNATURE_BYTES = 16  # 128 bits: not to be guessed, and 22 characters in a header
MAX_SOURCES = 65536  # remembered choices by address: some 10 MiB at worst


class Placed(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def weight(self) -> int: ...


TargetT = TypeVar("TargetT", bound=Placed)


def _digest(secret: bytes, *parts: str) -> bytes:
    """The parts are names and addresses: none has a null in it."""
    code = HMAC(secret, SHA256())
    code.update("\0".join(parts).encode())
    return code.finalize()


def sign(secret: bytes, *parts: str) -> bytes:
    """22 characters that may stand in a cookie (RFC 6265 4.1.1)."""
    return urlsafe_b64encode(_digest(secret, *parts)[:SIGNATURE_BYTES]).rstrip(b"=")


class Cookie:
    """One cookie of ours: found in what clients bring, written into answers."""

    __slots__ = ("_find", "_for_others", "_format")

    def __init__(self, name: bytes, duration: float) -> None:
        self._find = re.compile(
            rb"(?:^|[; \t])" + re.escape(name) + rb"(?:CORS)?=([A-Za-z0-9_-]{22})(?=[; \t]|$)"
        ).search
        common = rb"=%b; Path=/; Max-Age=" + b"%d" % duration + rb"; HttpOnly"
        self._format = b"Set-Cookie: " + name + common + b"\r\n"
        # Browsers send a cookie along with another site's requests only if it says so, and only over TLS. ALB gives
        # such requests a second cookie, so that the first stays bound to the site.
        self._for_others = b"Set-Cookie: " + name + b"CORS" + common + b"; SameSite=None; Secure\r\n"

    def value(self, head: RequestHead) -> bytes | None:
        for line in head.values(b"cookie"):
            found = self._find(line)
            if found is not None:
                return found[1]
        return None

    def line(self, value: bytes, head: RequestHead, *, secure: bool) -> bytes:
        written = self._format % value
        if secure and head.values(b"origin"):
            written += self._for_others % value
        return written


class Stickiness(Generic[TargetT]):
    """Of one target group. Told by `refresh` who may be used; `find` gives a client's target if it still may be."""

    __slots__ = (
        "_application",
        "_by_signature",
        "_candidates",
        "_cookie",
        "_name",
        "_secret",
        "_set_by_target",
        "_signatures",
        "_sources",
        "spec",
    )

    def __init__(self, group: str, spec: StickinessSpec, secret: bytes) -> None:
        self.spec = spec
        self._name = group
        self._secret = secret
        self._by_signature: dict[bytes, TargetT] = {}
        self._signatures: dict[str, bytes] = {}
        self._candidates: tuple[TargetT, ...] = ()
        self._sources: dict[str, TargetT] = {}
        name = spec.cookie.encode()
        self._cookie = Cookie(APPLICATION_COOKIE if spec.kind == "app_cookie" else name, spec.duration)
        self._application = self._set_by_target = None
        if spec.kind == "app_cookie":
            self._application = re.compile(rb"(?:^|[; \t])" + re.escape(name) + rb"=").search
            # Possessive: linear in the head, whatever the target says.
            self._set_by_target = re.compile(rb"\r\nset-cookie:[ \t]*+" + re.escape(name) + rb"=", re.IGNORECASE).search

    def is_for(self, spec: StickinessSpec, secret: bytes) -> bool:
        return self.spec == spec and self._secret == secret

    def refresh(self, usable: Iterable[TargetT], candidates: Iterable[TargetT]) -> None:
        """Who comes back may come back to the usable ones; who is new by address is spread over the candidates."""
        targets = list(usable)
        known = self._signatures
        self._signatures = {target.key: known.get(target.key) or self._sign(target) for target in targets}
        self._by_signature = {self._signatures[target.key]: target for target in targets}
        self._candidates = tuple(candidates)
        self._sources.clear()

    def _sign(self, target: TargetT) -> bytes:
        return sign(self._secret, "target", self._name, target.key)

    def find(self, head: RequestHead, source: str) -> TargetT | None:
        if self.spec.kind == "source_ip":
            return self.of_source(source)
        if self._application is not None and not self._in_session(head):
            return None  # the application has ended its session: so have we
        value = self._cookie.value(head)
        return None if value is None else self._by_signature.get(value)

    def of_source(self, source: str) -> TargetT | None:
        """The target that scores highest for this address (rendezvous hashing, by weight): one that comes or goes
        moves only the clients it takes or had. Nothing need be remembered for that; what is, is so for speed."""
        known = self._sources.get(source)
        if known is not None or not self._candidates:
            return known
        best = max(self._candidates, key=lambda target: self._score(source, target))
        if len(self._sources) >= MAX_SOURCES:
            self._sources.clear()
        self._sources[source] = best
        return best

    def _score(self, source: str, target: TargetT) -> float:
        drawn = int.from_bytes(_digest(self._secret, "source", self._name, source, target.key)[:6], "big") + 1
        return -max(target.weight, 1) / log(drawn / (2**48 + 1))

    def lines(self, target: TargetT, head: RequestHead, answer: bytes, *, secure: bool) -> bytes:
        """What is added to an answer's head. `answer` is the head as the target gave it."""
        if self.spec.kind == "source_ip":
            return b""
        signature = self._signatures.get(target.key) or self._sign(target)
        if self._set_by_target is not None and self._set_by_target(answer) is None:
            # No session begins here. One that goes on has our cookie already, unless it had to move.
            moved = self._in_session(head) and self._cookie.value(head) != signature
            return self._cookie.line(signature, head, secure=secure) if moved else b""
        return self._cookie.line(signature, head, secure=secure)

    def _in_session(self, head: RequestHead) -> bool:
        """The application's own cookie is there."""
        return self._application is not None and any(map(self._application, head.values(b"cookie")))


class GroupStickiness:
    """Of one weighted forward: which of its target groups a client had drawn."""

    __slots__ = ("_by_signature", "_cookie", "_signatures")

    def __init__(self, groups: Iterable[str], duration: float, secret: bytes) -> None:
        self._cookie = Cookie(GROUP_COOKIE, duration)
        self._signatures = {group: sign(secret, "group", group) for group in groups}
        self._by_signature = {signature: group for group, signature in self._signatures.items()}

    def find(self, head: RequestHead) -> str | None:
        value = self._cookie.value(head)
        return None if value is None else self._by_signature.get(value)

    def line(self, group: str, head: RequestHead, *, secure: bool) -> bytes:
        return self._cookie.line(self._signatures[group], head, secure=secure)
