"""Regular expressions for rewriting: the usual syntax without look-around and back-references, in bounded time.

Pure. A text is searched by Python's `re` where even its worst backtracking would be cheap, which one can tell from the
expression and the text's length. Where it could be dear the search walks all alternatives at once (Thompson's and
Pike's machine, as RE2 does): time is text times expression at worst, counted, and given up at a limit. Both find the
same: the leftmost match, and of those the one that a backtracking search would find first.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_LENGTH = 1024  # of an expression; AWS's limit
MAX_REPEAT = 100  # in {m,n}; each is written out
MAX_DEPTH = 50  # of ( inside of (
MAX_PROGRAM = 2000  # instructions; beyond, a text of usual length would exceed MAX_STEPS

# Steps of backtracking that are cheaper than anything else we could do: some 10 ns each, so 1 ms at worst.
CHEAP = 100_000
# Steps of the machine until a search is given up: some 300 ns each, so 30 ms at worst.
MAX_STEPS = 100_000

ALL = (1 << 256) - 1  # a set of bytes is an integer: bit 97 is `a`
NEWLINE = 1 << 10


class BadExpression(ValueError):
    """Why an expression is not accepted, as a clause."""


class TooDear(Exception):
    """The search would take more than MAX_STEPS."""


# What an expression is made of. Numbers of groups count from 1.


@dataclass(frozen=True, slots=True)
class _Set:
    """One byte of these."""

    members: int


@dataclass(frozen=True, slots=True)
class _Anchor:
    """`^` or `$`. Not in the middle of lines, and no newline is overlooked at the end: a URL has none."""

    at_end: bool


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Either:
    branches: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    number: int  # 0: it captures nothing
    inner: _Node


@dataclass(frozen=True, slots=True)
class _Repeat:
    inner: _Node
    least: int
    most: int | None
    greedy: bool


_Node = _Set | _Anchor | _Sequence | _Either | _Group | _Repeat


def _span(first: str, last: str) -> int:
    return sum(1 << byte for byte in range(ord(first), ord(last) + 1))


_DIGITS = _span("0", "9")
_WORD = _DIGITS | _span("a", "z") | _span("A", "Z") | 1 << ord("_")
_SPACE = sum(1 << ord(char) for char in " \t\n\r\f\v")
_CLASSES = {
    "d": _DIGITS,
    "D": ALL ^ _DIGITS,
    "w": _WORD,
    "W": ALL ^ _WORD,
    "s": _SPACE,
    "S": ALL ^ _SPACE,
    "t": 1 << 9,
    "n": NEWLINE,
    "r": 1 << 13,
}


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self.groups = 0

    def parse(self) -> _Node:
        node = self._either()
        if self._at < len(self._text):
            raise BadExpression(f"has a ) too many, at character {self._at + 1}")
        return node

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, what: str) -> bool:
        if self._text.startswith(what, self._at):
            self._at += len(what)
            return True
        return False

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise BadExpression("ends in the middle")
        self._at += 1
        return char

    def _either(self) -> _Node:
        branches = [self._sequence()]
        while self._take("|"):
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else _Either(tuple(branches))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated())
        return _Sequence(tuple(parts))

    def _repeated(self) -> _Node:
        start = self._at
        inner = self._atom()
        if self._take("*"):
            bounds: tuple[int, int | None] = 0, None
        elif self._take("+"):
            bounds = 1, None
        elif self._take("?"):
            bounds = 0, 1
        elif counted := re.compile(r"\{(\d{1,4})(,(\d{1,4})?)?\}", re.ASCII).match(self._text, self._at):
            self._at = counted.end()
            least = int(counted[1])
            most = None if counted[2] and not counted[3] else int(counted[3] or least)
            bounds = least, most
        else:
            return inner
        least, most = bounds
        if isinstance(inner, _Anchor):
            raise BadExpression(f"repeats an anchor, at character {start + 1}")
        if max(least, most or 0) > MAX_REPEAT:
            raise BadExpression(f"repeats more than {MAX_REPEAT} times: use + or *")
        if most is not None and most < least:
            raise BadExpression(f"has a range {{{least},{most}}} that runs backwards")
        greedy = not self._take("?")
        if self._peek() in ("*", "+", "?"):
            raise BadExpression(f"has two repetitions in a row, at character {self._at + 1}")
        return _Repeat(inner, least, most, greedy)

    def _atom(self) -> _Node:
        start = self._at + 1
        char = self._next()
        match char:
            case "(":
                return self._group(start)
            case "[":
                return _Set(self._members(start))
            case ".":
                return _Set(ALL ^ NEWLINE)
            case "^":
                return _Anchor(at_end=False)
            case "$":
                return _Anchor(at_end=True)
            case "\\":
                return _Set(self._escape())
            case "*" | "+" | "?":
                raise BadExpression(f"repeats nothing, at character {start}")
            case _:
                return _Set(_byte(char))

    def _group(self, start: int) -> _Node:
        number = 0
        if self._take("?:"):
            pass
        elif self._take("?"):
            what = f"(?{self._peek()}"
            raise BadExpression(f"has {what} at character {start}: of these only (?: is known, and no look-around")
        else:
            self.groups += 1
            number = self.groups
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadExpression(f"has more than {MAX_DEPTH} ( inside of each other")
        inner = self._either()
        self._depth -= 1
        if not self._take(")"):
            raise BadExpression(f"has a ( that is not closed, at character {start}")
        return _Group(number, inner)

    def _escape(self) -> int:
        char = self._next()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.isascii() and char.isalnum():
            kind = "back-references are not known" if char.isdigit() else r"known are \d \w \s \D \W \S \t \n \r"
            raise BadExpression(f"has \\{char} at character {self._at - 1}: {kind}")
        return _byte(char)

    def _members(self, start: int) -> int:
        negated = self._take("^")
        members, first = 0, True
        while first or self._peek() != "]":
            if not self._peek():
                raise BadExpression(f"has a [ that is not closed, at character {start}")
            low = self._escape() if self._take("\\") else _byte(self._next())
            first = False
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._escape() if self._take("\\") else _byte(self._next())
                if low.bit_count() > 1 or high.bit_count() > 1 or high < low:
                    raise BadExpression(f"has a range without sense in the [ ] at character {start}")
                low = (high << 1) - low  # all bits from the one to the other
            members |= low
        self._at += 1
        return ALL ^ members if negated else members


def _byte(char: str) -> int:
    if not " " <= char <= "~":
        raise BadExpression("holds something else than visible ASCII: a URL has nothing else")
    return 1 << ord(char)


def _choices(node: _Node) -> tuple[float, int]:
    """How many ways there are at most to match inside n bytes, as (factor, power) of factor times n to the power.

    Infinite where choices are repeated: those multiply with every round, which is how backtracking explodes.
    """
    match node:
        case _Set() | _Anchor():
            return 1.0, 0
        case _Group(inner=inner):
            return _choices(inner)
        case _Sequence(parts=parts):
            each = [_choices(part) for part in parts]
            return math.prod(factor for factor, _ in each), sum(power for _, power in each)
        case _Either(branches=branches):
            each = [_choices(branch) for branch in branches]
            return sum(factor for factor, _ in each), max(power for _, power in each)
        case _Repeat(inner=inner, least=least, most=most):
            if _choices(inner) != (1.0, 0):
                return math.inf, 0
            return (1.0, 1) if most is None else (float(most - least + 1), 0)


def _python(node: _Node) -> bytes:
    """The same for `re`, spelled out so that nothing in it can mean something else there."""
    match node:
        case _Set(members=members):
            negated = members.bit_count() > 128
            listed = b"".join(b"\\x%02x" % byte for byte in range(256) if bool(members >> byte & 1) != negated)
            if not listed:
                return rb"[\x00-\xff]" if negated else rb"[^\x00-\xff]"
            return b"[^%b]" % listed if negated else b"[%b]" % listed
        case _Anchor(at_end=at_end):
            return rb"\Z" if at_end else rb"\A"
        case _Sequence(parts=parts):
            return b"".join(map(_python, parts))
        case _Either(branches=branches):
            return b"(?:%b)" % b"|".join(map(_python, branches))
        case _Group(number=number, inner=inner):
            return (b"(%b)" if number else b"(?:%b)") % _python(inner)
        case _Repeat(inner=inner, least=least, most=most, greedy=greedy):
            bounds = b"{%d,%b}" % (least, b"" if most is None else b"%d" % most)
            return _python(inner) + bounds + (b"" if greedy else b"?")


# The machine's instructions: (BYTE, set), (SPLIT, preferred, other), (JUMP, to), (SAVE, slot), (AT_END,), (AT_START,),
# (MATCH,). A thread is a place in the program and what it has saved; a list of threads is in order of preference.
_BYTE, _SPLIT, _JUMP, _SAVE, _AT_START, _AT_END, _MATCH = range(7)
_Instruction = tuple[int, int, int]


class _Assembler:
    def __init__(self) -> None:
        self.program: list[_Instruction] = []

    def _add(self, code: int, one: int = 0, other: int = 0) -> int:
        if len(self.program) >= MAX_PROGRAM:
            raise BadExpression("is too large when its repetitions are written out")
        self.program.append((code, one, other))
        return len(self.program) - 1

    def _split(self, at: int, into: int, past: int, *, greedy: bool) -> None:
        self.program[at] = (_SPLIT, into, past) if greedy else (_SPLIT, past, into)

    def finish(self, node: _Node) -> tuple[_Instruction, ...]:
        self._node(node)
        self._add(_MATCH)
        return tuple(self.program)

    def _node(self, node: _Node) -> None:
        match node:
            case _Set(members=members):
                self._add(_BYTE, members)
            case _Anchor(at_end=at_end):
                self._add(_AT_END if at_end else _AT_START)
            case _Sequence(parts=parts):
                for part in parts:
                    self._node(part)
            case _Group(number=number, inner=inner):
                if number:
                    self._add(_SAVE, 2 * number)
                self._node(inner)
                if number:
                    self._add(_SAVE, 2 * number + 1)
            case _Either(branches=branches):
                self._branches(branches)
            case _Repeat():
                self._repeat(node)

    def _branches(self, branches: tuple[_Node, ...]) -> None:
        ends: list[int] = []
        for branch in branches[:-1]:
            split = self._add(_SPLIT)
            self._node(branch)
            ends.append(self._add(_JUMP))
            self._split(split, split + 1, len(self.program), greedy=True)
        self._node(branches[-1])
        for end in ends:
            self.program[end] = (_JUMP, len(self.program), 0)

    def _repeat(self, node: _Repeat) -> None:
        for _ in range(node.least):
            self._node(node.inner)
        if node.most is None:
            split = self._add(_SPLIT)
            self._node(node.inner)
            self._add(_JUMP, split)
            self._split(split, split + 1, len(self.program), greedy=node.greedy)
            return
        splits: list[int] = []
        for _ in range(node.most - node.least):
            splits.append(self._add(_SPLIT))
            self._node(node.inner)
        for split in splits:
            self._split(split, split + 1, len(self.program), greedy=node.greedy)


def _can_be_empty(node: _Node) -> bool:
    match node:
        case _Set():
            return False
        case _Anchor():
            return True
        case _Group(inner=inner):
            return _can_be_empty(inner)
        case _Sequence(parts=parts):
            return all(map(_can_be_empty, parts))
        case _Either(branches=branches):
            return any(map(_can_be_empty, branches))
        case _Repeat(inner=inner, least=least):
            return least == 0 or _can_be_empty(inner)


def _refuse_empty_rounds(node: _Node) -> None:
    """`(a?)*` could go round without an end; engines differ in what it then captures, so nobody should rely on it."""
    match node:
        case _Repeat(inner=inner):
            if _can_be_empty(inner):
                raise BadExpression("repeats something that can be empty: take the inner *, ? or {0,} away")
            _refuse_empty_rounds(inner)
        case _Group(inner=inner):
            _refuse_empty_rounds(inner)
        case _Sequence(parts=nodes) | _Either(branches=nodes):
            for inner in nodes:
                _refuse_empty_rounds(inner)
        case _:
            pass


Spans = tuple[int, ...]  # where group 0, 1, ... begins and ends; -1 for a group that took no part


class Expression:
    """One compiled expression. BadExpression says what is wrong with it."""

    __slots__ = ("_anchored", "_factor", "_power", "_program", "_python", "groups")

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise BadExpression(f"is longer than {MAX_LENGTH} characters")
        parser = _Parser(text)
        tree = parser.parse()
        _refuse_empty_rounds(tree)
        self.groups = parser.groups
        self._program = _Assembler().finish(tree)
        parts = tree.parts if isinstance(tree, _Sequence) else ()
        self._anchored = bool(parts) and parts[0] == _Anchor(at_end=False)
        self._factor, power = _choices(tree)
        # Where 2 to the power is not cheap, nothing is, and no larger number is needed.
        self._power = min(power if self._anchored else power + 1, CHEAP.bit_length())
        self._python = re.compile(_python(tree))

    def search(self, text: bytes) -> Spans | None:
        """The leftmost match. TooDear when it is not found within MAX_STEPS."""
        if self._factor * (len(text) + 1) ** self._power <= CHEAP:
            match = self._python.search(text)
            return None if match is None else tuple(at for span in match.regs for at in span)
        return self.walk(text)

    def walk(self, text: bytes) -> Spans | None:
        """The same by the machine that never backtracks."""
        program = self._program
        found: Spans | None = None
        fresh: Spans = (-1,) * (2 * self.groups + 2)
        threads: list[tuple[int, Spans]] = []
        steps = 0
        end = len(text)
        for at in range(end + 1):
            seen: set[int] = set()
            ready: list[tuple[int, Spans]] = []
            # Threads that wait come before one that would begin here: leftmost goes before everything else.
            todo = threads
            if found is None and (at == 0 or not self._anchored):
                todo = [*threads, (0, (at, *fresh[1:]))]
            elif not threads:
                break
            for begun in todo:
                stack = [begun]
                while stack:
                    here, saved = stack.pop()
                    if here in seen:
                        continue
                    seen.add(here)
                    steps += 1
                    code, one, other = program[here]
                    if code in (_BYTE, _MATCH):
                        ready.append((here, saved))
                    elif code == _SPLIT:
                        stack.append((other, saved))
                        stack.append((one, saved))
                    elif code == _JUMP:
                        stack.append((one, saved))
                    elif code == _SAVE:
                        stack.append((here + 1, (*saved[:one], at, *saved[one + 1 :])))
                    elif at == (end if code == _AT_END else 0):
                        stack.append((here + 1, saved))
            if steps > MAX_STEPS:
                raise TooDear
            threads = []
            for here, saved in ready:
                code, members, _ = program[here]
                if code == _MATCH:  # what comes after it in the list was less preferred
                    found = (saved[0], at, *saved[2:])
                    break
                if at < end and members >> text[at] & 1:
                    threads.append((here + 1, saved))
        return found
