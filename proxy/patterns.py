"""ALB's patterns, `*` for any run of bytes and `?` for exactly one, and how to find those of thousands that fit a text.

Pure, bytes everywhere. Whether letter case counts is the caller's business: it lowers both sides or neither.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

_WILDCARDS = b"*?"

T = TypeVar("T")
Filed = TypeVar("Filed")


def wildcard(pattern: bytes) -> Callable[[bytes], object]:
    """A predicate whose time is text times pattern at worst, however many stars.

    Between two stars the leftmost place for a literal is always a right one: a later place only leaves the rest less
    text. So each `*literal` is an atomic group, never re-entered, and what follows the last star is looked at from the
    end. The naive `.*a.*a.*b` tries every split: a 16 KiB header against five stars would hold the process for hours.
    """
    head, *after_stars = pattern.split(b"*")
    if not after_stars:
        return re.compile(_one_for_one(head), re.DOTALL).fullmatch
    *middle, tail = after_stars
    groups = b"".join(b"(?>.*?%b)" % _one_for_one(literal) for literal in middle if literal)
    # At least as many bytes as the tail has, to the end and not one back: then the end must look like the tail.
    end = b".{%d,}+(?<=%b)" % (len(tail), _one_for_one(tail))
    return re.compile(_one_for_one(head) + groups + end, re.DOTALL).fullmatch


def _one_for_one(literal: bytes) -> bytes:
    return b".".join(re.escape(part) for part in literal.split(b"?"))


def literal_prefix(pattern: bytes) -> bytes:
    return bytes(takewhile(lambda byte: byte not in _WILDCARDS, pattern))


def literal_suffix(pattern: bytes) -> bytes:
    return literal_prefix(pattern[::-1])[::-1]


def is_literal(pattern: bytes) -> bool:
    return not any(byte in _WILDCARDS for byte in pattern)


class AnyOf:
    """Does one of these patterns fit? The four plain shapes are asked first, in C; the rest are predicates."""

    __slots__ = ("_equal", "_inner", "_prefixes", "_suffixes", "_wildcards", "patterns")

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self.patterns = tuple(patterns)
        equal: set[bytes] = set()
        prefixes: list[bytes] = []
        suffixes: list[bytes] = []
        inner: list[bytes] = []
        wildcards: list[Callable[[bytes], object]] = []
        for pattern in patterns:
            if is_literal(pattern):
                equal.add(pattern)
            elif pattern.endswith(b"*") and is_literal(pattern[:-1]):
                prefixes.append(pattern[:-1])
            elif pattern.startswith(b"*") and is_literal(pattern[1:]):
                suffixes.append(pattern[1:])
            elif pattern.startswith(b"*") and pattern.endswith(b"*") and is_literal(pattern[1:-1]):
                inner.append(pattern[1:-1])
            else:
                wildcards.append(wildcard(pattern))
        self._equal = frozenset(equal)
        self._prefixes = tuple(prefixes)
        self._suffixes = tuple(suffixes)
        self._inner = tuple(inner)
        self._wildcards = tuple(wildcards)

    def fits(self, text: bytes) -> bool:
        if text in self._equal or text.startswith(self._prefixes) or text.endswith(self._suffixes):
            return True
        if self._inner and any(literal in text for literal in self._inner):
            return True
        if not self._wildcards:  # the common case, and making a generator costs more than all of the above
            return False
        return any(fullmatch(text) is not None for fullmatch in self._wildcards)


class _Prefixes(Generic[T]):
    """Which of these keys does a text begin with?

    Every key that is a prefix of the text sorts at or before it, and nothing that sorts between such a key and the
    text lacks that prefix. So they are all on one chain: the key just before the text, the longest key that is a prefix
    of that one, and so on. Cost: one bisection and the chain, whatever the number and the lengths of keys.
    """

    __slots__ = ("_keys", "_outer", "_values")

    def __init__(self, named: dict[bytes, T]) -> None:
        self._keys = sorted(named)
        self._values = [named[key] for key in self._keys]
        self._outer: list[int] = []  # where the longest shorter prefix of the same key stands, -1 for none
        chain: list[int] = []
        for at, key in enumerate(self._keys):
            while chain and not key.startswith(self._keys[chain[-1]]):
                chain.pop()
            self._outer.append(chain[-1] if chain else -1)
            chain.append(at)

    def find(self, text: bytes, found: list[T]) -> None:
        at = bisect_right(self._keys, text) - 1
        while at >= 0 and not text.startswith(self._keys[at]):
            at = self._outer[at]
        while at >= 0:
            found.append(self._values[at])
            at = self._outer[at]


class PatternIndex(Generic[T]):
    """From a text to the values of the patterns that may fit it.

    It may give too much and never too little: a pattern with wildcards is found by its literal beginning, else by its
    literal end, else always. Whoever asks proves what it is given.
    """

    __slots__ = ("_always", "_equal", "_prefixes", "_suffixes")

    def __init__(self, filed: Mapping[bytes, Filed], finish: Callable[[Sequence[Filed]], T]) -> None:
        """`finish` makes one value of all that stand under one literal."""
        prefixes: dict[bytes, list[Filed]] = {}
        suffixes: dict[bytes, list[Filed]] = {}
        always: list[Filed] = []
        self._equal: dict[bytes, T] = {}
        for pattern, value in filed.items():
            if is_literal(pattern):
                self._equal[pattern] = finish([value])
            elif prefix := literal_prefix(pattern):
                prefixes.setdefault(prefix, []).append(value)
            elif suffix := literal_suffix(pattern):
                suffixes.setdefault(suffix[::-1], []).append(value)
            else:
                always.append(value)
        self._prefixes = _Prefixes({key: finish(values) for key, values in prefixes.items()}) if prefixes else None
        self._suffixes = _Prefixes({key: finish(values) for key, values in suffixes.items()}) if suffixes else None
        self._always = [finish(always)] if always else []

    def find(self, text: bytes) -> list[T]:
        found = self._always.copy()
        value = self._equal.get(text)
        if value is not None:
            found.append(value)
        if self._prefixes is not None:
            self._prefixes.find(text, found)
        if self._suffixes is not None:
            self._suffixes.find(text[::-1], found)
        return found
