"""Extended DNS Errors (RFC 8914): why an answer is what it is, for people who read `dig`. Pure.

They ride in the OPT record, so only clients that sent one see them; no program is to act on them.
"""

from __future__ import annotations

from enum import IntEnum

OPTION = 15  # RFC 8914 section 2


class ErrorCode(IntEnum):
    """RFC 8914 section 4, those that are said here."""

    OTHER = 0
    STALE_ANSWER = 3
    CACHED_ERROR = 13
    NOT_READY = 14
    PROHIBITED = 18
    STALE_NXDOMAIN = 19
    NOT_AUTHORITATIVE = 20
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


class ExtendedError:
    """A code with its words, as the option's bytes."""

    __slots__ = ("code", "option", "text")

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        data = code.to_bytes(2) + text.encode()
        self.code = code
        self.text = text
        self.option = OPTION.to_bytes(2) + len(data).to_bytes(2) + data


STALE = ExtendedError(ErrorCode.STALE_ANSWER)
STALE_NXDOMAIN = ExtendedError(ErrorCode.STALE_NXDOMAIN)
CACHED_ERROR = ExtendedError(ErrorCode.CACHED_ERROR)
SHUTTING_DOWN = ExtendedError(ErrorCode.NOT_READY, "shutting down")
TOO_BUSY = ExtendedError(ErrorCode.OTHER, "too many questions under way")
LOOP = ExtendedError(ErrorCode.OTHER, "this question came back to its sender: a forwarding loop")
TIMED_OUT = ExtendedError(ErrorCode.NO_REACHABLE_AUTHORITY, "no resolver answered in time")
UNREACHABLE = ExtendedError(ErrorCode.NETWORK_ERROR, "no resolver can be reached")
UNUSABLE = ExtendedError(ErrorCode.NO_REACHABLE_AUTHORITY, "every resolver refused or failed")
PROHIBITED = ExtendedError(ErrorCode.PROHIBITED)
NO_TRANSFER = ExtendedError(ErrorCode.PROHIBITED, "no zones for you")
NO_RECURSION = ExtendedError(ErrorCode.PROHIBITED, "no recursion for you")
NOT_OURS = ExtendedError(ErrorCode.NOT_AUTHORITATIVE)
