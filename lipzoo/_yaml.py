"""Read and write YAML."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lipzoo._atomic import write_atomically
from lipzoo._files import read_regular
from lipzoo.errors import ConfigError, shown

__all__ = [
    "parse_mapping",
    "parse_yaml",
    "read_yaml",
    "to_yaml",
    "write_yaml",
]

#: No YAML file of ours is longer, deeper or, its aliases written out, of more values.
MAX_BYTES = 2**20
_MAX_DEPTH = 64
_MAX_VALUES = 50_000
#: Digits of a whole number; Python itself refuses to print very long ones.
_MAX_DIGITS = 40

#: YAML 1.2's core schema: the tag of a word that is not in quotes, and what it means.
_TAG = "tag:yaml.org,2002:"
_CORE: dict[str, tuple[re.Pattern, str, Callable[[str], Any]]] = {
    "null": (re.compile("~|null|Null|NULL|"), "~nN", lambda _: None),
    "bool": (re.compile("true|True|TRUE|false|False|FALSE"), "tTfF", lambda x: x[0] in "tT"),
    "int": (
        re.compile("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
        "-+0123456789",
        lambda x: int(x, {"o": 8, "x": 16}.get(x[1:2], 10)),
    ),
    "float": (
        re.compile(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        "-+.0123456789",
        lambda x: float(x.replace(".", "", 1) if x[-1] in "fFnN" else x),
    ),
}
#: The parser in C, which PyYAML's wheels have, is some thirty times as fast.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _refuse(problem: str, event: yaml.Event) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


class _Builder:
    """Makes plain values of a parser's events, and stops at what would take too much of them.

    No value is made twice for an alias, but it counts wherever it stands. A key that occurs twice
    is refused, where PyYAML silently takes the last.
    """

    def __init__(self) -> None:
        self.count = self.documents = 0
        self.result: Any = None
        #: The collections that are open: themselves, their anchors, the values before them.
        self.open: list[tuple[list | dict, str | None, int]] = []
        self.keys: list[Any] = []
        self.anchors: dict[str, tuple[Any, int] | None] = {}

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            if event.anchor:
                self.anchors[event.anchor] = value, 1
            self.place(value, 1, event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.end(event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                _refuse(f"nothing is named '{shown(event.anchor)}' before", event)
            if self.anchors[event.anchor] is None:
                _refuse("an alias stands for what it is part of", event)
            self.place(*self.anchors[event.anchor], event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                _refuse("more than one document", event)

    def begin(self, event: yaml.CollectionStartEvent) -> None:
        kind, value = ("map", {}) if isinstance(event, yaml.MappingStartEvent) else ("seq", [])
        if event.tag not in (None, "!", _TAG + kind):
            _refuse(f"{shown(event.tag)} is not taken here", event)
        if len(self.open) >= _MAX_DEPTH:
            _refuse(f"nested deeper than {_MAX_DEPTH} levels", event)
        before = self.count
        self.place(value, 1, event)
        if event.anchor:
            self.anchors[event.anchor] = None
        self.open.append((value, event.anchor, before))
        self.keys.append(_NO_KEY)

    def end(self, event: yaml.Event) -> None:
        value, anchor, before = self.open.pop()
        self.keys.pop()
        if isinstance(value, dict) and "<<" in value:
            own = dict(value)
            bases = own.pop("<<")
            bases = bases if isinstance(bases, list) else [bases]
            if not all(isinstance(base, dict) for base in bases):
                _refuse("<< takes a mapping, or a list of them", event)
            value.clear()
            for each in (*reversed(bases), own):
                value.update(each)
        if anchor:
            self.anchors[anchor] = value, self.count - before

    def place(self, value: Any, size: int, event: yaml.Event) -> None:
        """Put a value, which holds ``size`` values, where it belongs."""
        self.count += size
        if self.count > _MAX_VALUES:
            _refuse(f"more than {_MAX_VALUES} values", event)
        if not self.open:
            self.result = value
            return
        parent = self.open[-1][0]
        if isinstance(parent, list):
            parent.append(value)
        elif self.keys[-1] is _NO_KEY:
            if isinstance(value, (list, dict)):
                _refuse("a key must be one word or number", event)
            if value in parent:
                _refuse(f"key {shown(repr(value))} occurs twice", event)
            self.keys[-1] = value
        else:
            parent[self.keys[-1]] = value
            self.keys[-1] = _NO_KEY


_NO_KEY = object()
_HALF = re.compile("[\0\ud800-\udfff]")


def _scalar(event: yaml.ScalarEvent) -> Any:
    """What a word means: text in quotes, else what the core schema says."""
    text, tag = event.value, event.tag
    if _HALF.search(text):
        _refuse("text with a NUL or half a character", event)
    if tag in ("!", _TAG + "str") or (tag is None and not event.implicit[0]):
        return text
    if tag is not None and tag.removeprefix(_TAG) not in _CORE:
        _refuse(f"{shown(tag)} is not taken here; quote it as text", event)
    for kind, (pattern, first, value) in _CORE.items():
        if text[:1] not in first:
            continue
        if tag in (None, _TAG + kind) and pattern.fullmatch(text):
            if kind == "int" and len(text) > _MAX_DIGITS:
                _refuse(f"a number of more than {_MAX_DIGITS} digits", event)
            return value(text)
    if tag is not None:
        _refuse(f"'{shown(text)}' is no {tag.removeprefix(_TAG)}", event)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes text that we, or a reader of YAML 1.1, would read as something else."""


for _kind, (_pattern, _first, _) in _CORE.items():
    _Dumper.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern.pattern})$"), [*_first])


def parse_yaml(text: str) -> Any:
    """The value that a piece of YAML means: plain values of the core schema, no others.

    Raises
    ------
    ConfigError
        If it is no YAML, or more than plain values of a bounded size; it says in which line.
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            builder.take(event)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{' '.join(str(fault.problem).split())}{where}") from None
    except (yaml.YAMLError, UnicodeError) as fault:
        raise ConfigError(" ".join(str(fault).split())) from None
    return builder.result


def read_yaml(path: Path | str, folder: Path | str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file. YAML tags construct nothing.

    Parameters
    ----------
    path : path
    folder : path, optional
        Which no link may lead out of; by default the user named the file, and it may be a link.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML, or is not a mapping.
    """
    path = Path(path)
    try:
        data = read_regular(path, MAX_BYTES, folder)
    except OSError as fault:
        raise ConfigError(f"{path}: cannot be read ({fault.strerror})") from None
    except ValueError as fault:  # a path with a NUL
        raise ConfigError(f"{path}: cannot be read ({fault})") from None
    return parse_mapping(data, path)


def parse_mapping(data: bytes, where: Path | str) -> dict[str, Any]:
    """The mapping in the bytes of a YAML file; see :func:`read_yaml`."""
    try:
        content = parse_yaml(str(data, "utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: is no UTF-8 text") from None
    except ValueError as fault:
        raise ConfigError(f"{where}: is no valid YAML ({fault})") from None
    if not isinstance(content, dict):
        kind = "empty" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{where}: must hold a mapping of keys to values, but is {kind}")
    return content


def to_yaml(content: dict[str, Any]) -> bytes:
    """A mapping as YAML, keys in their order."""
    text = yaml.dump(
        content,
        None,
        _Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )
    return text.encode("utf-8")


def write_yaml(path: Path | str, content: dict[str, Any]) -> None:
    """Write a mapping as YAML, atomically."""
    write_atomically(path, to_yaml(content))
