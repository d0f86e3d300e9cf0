"""YAML text to plain data that remembers where each key and value stood.

Scalars follow the core schema of YAML 1.2 (section 10.3.2) and nothing else: `no` and `on` are text, `22:22` is text,
`2026-11-20` is text, `012` is twelve (octal is `0o12`). Keys are always text, as written.
Nothing a file holds may hurt the reader: nesting and the size after following aliases are bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.scanner import Scanner

from .mistakes import ConfigurationError, Mistake, Path, spelled

# The deepest key of our own is 9 levels down. The bound keeps hostile nesting off the stack.
MAX_DEPTH: Final = 64

# Values after aliases are followed. 10,000 targets make 60,000; nine levels of nine aliases would make 3 * 10**8.
MAX_VALUES: Final = 2_000_000

# Characters of a stranger's word that a message repeats.
MAX_SHOWN: Final = 60

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?", re.ASCII)
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"

Scalar = str | int | float | bool | None
Data = Any  # a Scalar, list[Data] or dict[str, Data]


def resolve(text: str) -> Scalar:
    """What a plain (unquoted) scalar means in the core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class Node:
    """One value of the file. `entries` for a mapping, `items` for a list, neither for a scalar."""

    __slots__ = ("column", "data", "entries", "height", "items", "line", "size")

    def __init__(self, line: int, column: int, data: Data) -> None:
        self.line = line
        self.column = column
        self.data = data
        self.entries: dict[str, Entry] | None = None
        self.items: list[Node] | None = None
        self.size = 1  # values in it, aliases followed
        self.height = 1  # levels of it, aliases followed

    def hold(self, child: Node) -> None:
        self.size += child.size
        self.height = max(self.height, child.height + 1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping: where the key stands, and its value."""

    line: int
    column: int
    node: Node


@dataclass(frozen=True, slots=True)
class Document:
    """A file that is YAML with a mapping on top. `mistakes` are those that did not stop the reading."""

    file: str
    root: Node
    mistakes: tuple[Mistake, ...] = ()
    valueless: frozenset[Path] = frozenset()  # keys with nothing behind them: reported, and absent from the data

    def locate(self, path: Path) -> tuple[int, int]:
        """Line and column of the value at `path`, or of the deepest part of the path that the file has."""
        node, _ = self._walk(path)
        return node.line, node.column

    def locate_key(self, path: Path) -> tuple[int, int]:
        """Line and column of the key that `path` ends in; for a list's item, of the item."""
        if path:
            node, _ = self._walk(path[:-1])
            if isinstance(path[-1], str) and node.entries and (entry := node.entries.get(path[-1])):
                return entry.line, entry.column
        return self.locate(path)

    def existing(self, path: Path) -> Path:
        """The longest beginning of `path` that the file has."""
        return self._walk(path)[1]

    def _walk(self, path: Path) -> tuple[Node, Path]:
        """Where a single value stands for a list of one, it is its own item 0."""
        node, found = self.root, ()
        for part in path:
            if isinstance(part, str) and node.entries is not None and part in node.entries:
                node = node.entries[part].node
            elif isinstance(part, int) and node.items is not None and part < len(node.items):
                node = node.items[part]
            elif part == 0 and node.items is None:
                continue
            else:
                break
            found = (*found, part)
        return node, found

    def mistake(self, path: Path, message: str, *, at_key: bool = False) -> Mistake:
        """With `at_key` the path ends in a key that may be missing or unknown; it is named all the same."""
        if at_key:
            path = (*self.existing(path[:-1]), path[-1])
            line, column = self.locate_key(path)
        else:
            path = self.existing(path)
            line, column = self.locate(path)
        return Mistake(self.file, line, column, spelled(path), message)


def decode(raw: bytes, file: str) -> str:
    """UTF-8, with or without a byte order mark."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigurationError([Mistake(file, 1, 1, "", "the file is UTF-16, save it as UTF-8")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8, save the file as UTF-8"
        raise ConfigurationError([Mistake(file, line, column, "", message)]) from None


def parse(text: str, file: str) -> Document:
    """One document, a mapping on top. What cannot be read further raises ConfigurationError with that one mistake."""
    return _Reader(text, file).document()


class PureParser(Reader, Scanner, Parser):
    """PyYAML without libyaml: the same events, some ten times slower."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


try:
    from yaml.cyaml import CParser as _Parser  # pyright: ignore[reportAttributeAccessIssue]
except ImportError:
    _Parser = PureParser


class _Reader:
    """Composes nodes from events. PyYAML's own composer overflows the C stack on deep nesting, and is slower."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._text = text
        self._parser: Any = None
        self._anchors: dict[str, Node | None] = {}  # None while the anchored value is still being read
        self._mistakes: list[Mistake] = []
        self._valueless: set[Path] = set()

    def document(self) -> Document:
        try:
            # The C parser already reads here, so its complaints begin here too.
            self._parser = _Parser(self._text)
            return self._document()
        except (ReaderError, UnicodeEncodeError):
            raise self._unprintable() from None
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None

    def _document(self) -> Document:
        event = self._next()  # stream start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            raise self._fatal(1, 1, "the file is empty, write at least one section such as load_balancer:")
        root = self._value(self._next(), (), 0)
        self._next()  # document end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            line, column = _place(event)
            raise self._fatal(line, column, "a second document begins here, a configuration is one document")
        if root.entries is None:
            if root.data is None:
                raise self._fatal(1, 1, "the file is empty, write at least one section such as load_balancer:")
            what = "a list" if root.items is not None else "a single value"
            message = f"the file holds {what}, it must be a mapping of sections such as load_balancer:"
            raise self._fatal(root.line, root.column, message)
        return Document(self._file, root, tuple(self._mistakes), frozenset(self._valueless))

    def _next(self) -> Any:
        event = self._parser.get_event()
        if isinstance(event, yaml.ScalarEvent) and not event.value.isascii() and _SURROGATE.search(event.value):
            raise self._fatal(*_place(event), "\\ud800 to \\udfff are halves of characters, write the whole one")
        return event

    def _value(self, event: Any, path: Path, depth: int) -> Node:
        line, column = _place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, line, column, path)
        if depth > MAX_DEPTH:
            raise self._too_deep(line, column)
        if event.anchor:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = Node(line, column, self._scalar(event, path))
        elif isinstance(event, yaml.SequenceStartEvent):
            self._refuse_tag(event, path, "seq")
            node = self._sequence(Node(line, column, None), path, depth)
        else:
            self._refuse_tag(event, path, "map")
            node = self._mapping(Node(line, column, None), path, depth)
        if node.size > MAX_VALUES:
            raise self._fatal(line, column, f"more than {MAX_VALUES} values once aliases are followed")
        if node.height > MAX_DEPTH:  # a chain of aliases is deep without nesting
            raise self._too_deep(line, column)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: str, line: int, column: int, path: Path) -> Node:
        shown = anchor if len(anchor) <= MAX_SHOWN else anchor[:MAX_SHOWN] + "..."
        if anchor not in self._anchors:
            raise self._fatal(line, column, f"*{shown} has no anchor, write &{shown} at the value first", path)
        node = self._anchors[anchor]
        if node is None:
            raise self._fatal(line, column, f"*{shown} stands inside its own anchor &{shown}", path)
        return node

    def _scalar(self, event: Any, path: Path) -> Scalar:
        tag: str | None = event.tag
        if tag is None or tag == "!":
            return resolve(event.value) if event.implicit[0] and tag is None else event.value
        if tag == _TAG + "str":
            return event.value
        value = resolve(event.value)
        kind = {"int": int, "float": float, "bool": bool, "null": type(None)}.get(tag.removeprefix(_TAG))
        if kind is float and type(value) is int:
            return float(value)
        if kind is None or type(value) is not kind:
            self._refuse_tag(event, path, "")
        return value

    def _refuse_tag(self, event: Any, path: Path, but: str) -> None:
        tag: str | None = event.tag
        if tag is not None and tag not in {"!", _TAG + but}:
            shown = tag.replace(_TAG, "!!")[:MAX_SHOWN]
            self._note(*_place(event), path, f"the tag {shown} is not read here, leave it out")

    def _sequence(self, node: Node, path: Path, depth: int) -> Node:
        node.items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item = self._value(event, (*path, len(node.items)), depth + 1)
            node.items.append(item)
            node.hold(item)
        node.data = [item.data for item in node.items]
        return node

    def _mapping(self, node: Node, path: Path, depth: int) -> Node:
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line, column = _place(event)
            key = self._key(event, path, depth)
            value = self._value(self._next(), path if key is None else (*path, key), depth + 1)
            node.hold(value)
            if key is None:
                continue
            if key == "<<" and event.implicit[0] and event.tag is None:
                merged += self._merge_sources(value, line, column, path)
            elif key in entries:
                message = f"the key is written twice, first in line {entries[key].line}; keep one"
                self._note(line, column, (*path, key), message)
            else:
                entries[key] = Entry(line, column, value)
        for source in merged:  # what is written out wins, then the first source (YAML merge key, 2005-01-18)
            for key, entry in (source.entries or {}).items():
                entries.setdefault(key, entry)
        for key, entry in entries.items():
            if entry.node.data is None:
                self._valueless.add((*path, key))
                message = "has no value, give it one or leave the key out"
                self._note(entry.line, entry.column, (*path, key), message)
        node.entries = entries
        node.data = {key: entry.node.data for key, entry in entries.items() if entry.node.data is not None}
        return node

    def _key(self, event: Any, path: Path, depth: int) -> str | None:
        if isinstance(event, yaml.ScalarEvent):
            return event.value
        if isinstance(event, yaml.AliasEvent):
            target = self._alias(event.anchor, *_place(event), path)
            if isinstance(target.data, str):
                return target.data
        else:
            self._value(event, path, depth + 1)
        self._note(*_place(event), path, "a key must be text")
        return None

    def _merge_sources(self, value: Node, line: int, column: int, path: Path) -> list[Node]:
        sources = value.items if value.items is not None else [value]
        if all(source.entries is not None for source in sources):
            return sources
        self._note(line, column, (*path, "<<"), "merges mappings, and this is none; name one with *anchor")
        return []

    def _note(self, line: int, column: int, path: Path, message: str) -> None:
        self._mistakes.append(Mistake(self._file, line, column, spelled(path), message))

    def _fatal(self, line: int, column: int, message: str, path: Path = ()) -> ConfigurationError:
        return ConfigurationError([*self._mistakes, Mistake(self._file, line, column, spelled(path), message)])

    def _too_deep(self, line: int, column: int) -> ConfigurationError:
        return self._fatal(line, column, f"nested deeper than {MAX_DEPTH} levels")

    def _unprintable(self) -> ConfigurationError:
        found = _UNPRINTABLE.search(self._text)
        position = found.start() if found else 0
        line = self._text.count("\n", 0, position) + 1
        column = position - (self._text.rfind("\n", 0, position) + 1) + 1
        code = f" U+{ord(found[0]):04X}" if found else ""
        return self._fatal(line, column, f"a character{code} that cannot stand in YAML, delete it")

    def _syntax(self, error: Any) -> ConfigurationError:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = self._text.split("\n")
        indent = re.match(r" *\t\s*", lines[line - 1]) if line <= len(lines) else None
        if indent and column <= indent.end() + 1:
            return self._fatal(line, indent.group().index("\t") + 1, "a tab in the indentation, YAML wants spaces")
        problem = str(error.problem or "cannot be read")
        for sign, advice in _ADVICE.items():
            if sign in f"{error.context} {problem}":
                return self._fatal(line, column, f"not YAML: {advice}")
        context = ""
        if error.context:
            since = f", which began in line {error.context_mark.line + 1}" if error.context_mark else ""
            context = f" ({error.context}{since})"
        return self._fatal(line, column, f"not YAML: {problem}{context}")


# What people do write, by what libyaml says of it, or PyYAML's own parser.
_ADVICE: Final = {
    "mapping values are not allowed": 'a colon cannot stand here: put text that holds ": " in quotes, and check the '
    "indentation",
    "while scanning an alias": '* begins the name of an anchor: put text such as "*.example.org" in quotes',
    "cannot start any token": "this character cannot begin a value: put the text in quotes",
    "node content": 'a value should stand here: put text such as "::1" in quotes',
    "expected key": "this does not fit what stands above: check the indentation and the quotes",
    "expected <block end>": "this does not fit what stands above: check the indentation and the quotes",
}

# Only escapes can make them, and only PyYAML's own parser lets them.
_SURROGATE = re.compile("[\ud800-\udfff]")

# YAML 1.2 section 5.1: c-printable.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
