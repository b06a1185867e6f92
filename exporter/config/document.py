"""YAML text → plain data that remembers where each value stood.

Owns reading the file, its limits, YAML's faults, `${NAME}` and the location of each
key. What the keys mean is left to `model`. Scalars follow YAML 1.2's core rules, as editors do:
only `true` and `false` are booleans, `1:30` and `2026-01-01` are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

import yaml

from exporter.config.dsn import mask_urls, redact
from exporter.config.syntax import DEPTH_LIMIT, SAFE_TAGS, DocumentLoader, explain
from exporter.errors import ConfigError, ConfigMissing, Fault

KeyPath = tuple[str | int, ...]

SIZE_LIMIT_BYTES = 1024 * 1024
NODE_LIMIT = 20_000
"""Values after aliases are expanded; a configuration of 100 databases has some 500."""

_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<broken>\$\{)")


class Unusable:
    """Stands in the data for a value whose fault is already reported."""


UNUSABLE: Final = Unusable()

_READERS: Final[dict[str, Callable[[str], object]]] = {
    SAFE_TAGS["bool"]: {"true": True, "false": False}.__getitem__,
    SAFE_TAGS["int"]: int,
    SAFE_TAGS["float"]: lambda text: float(re.sub(r"\.(?=inf|nan)", "", text)),
}


@dataclass(frozen=True, slots=True)
class Location:
    """Where a value stands in the file.

    Attributes:
        line: 1-based; of the value where that is a scalar, otherwise of its key.
        key_line: 1-based line of the key (or of the list entry).
        shown: The value as an error message may show it: as written, not as expanded.
    """

    line: int
    key_line: int
    shown: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file's data and the location of each value.

    Attributes:
        name: The file as the operator named it.
        data: Dicts with text keys, lists, text, numbers, booleans and None; `UNUSABLE` where a
            fault was found.
        locations: Of every key path in the file.
        faults: What was wrong with values and keys, by line and path.
    """

    name: str
    data: dict[str, object]
    locations: Mapping[KeyPath, Location]
    faults: tuple[tuple[int, KeyPath, Fault], ...]


def key_text(path: KeyPath) -> str:
    """Write a path as messages name it: `queries.dirs[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(
    path: Path,
    environ: Mapping[str, str] | None,
    *,
    holds: str = "at least the key databases",
    may_be_empty: bool = False,
) -> Document:
    """Read a YAML file whose top is a mapping.

    Args:
        path: The file; at most 1 MiB of UTF-8.
        environ: Where `${NAME}` in values is looked up. None for a format which is not ours: its
            values are then text exactly as written, but for empty ones, which stay None.
        holds: What the mapping consists of, for the message where the file is no mapping.
        may_be_empty: Whether a file without any value counts as a mapping without keys.

    Returns:
        The data and its locations; faults in single values are in it, not raised.

    Raises:
        ConfigError: The file cannot be read, or is not one YAML mapping.
    """
    name = str(path)
    root = _compose(_read_text(path), name)
    if root is None or root.tag == SAFE_TAGS["null"]:
        if may_be_empty:
            return Document(name, {}, {(): Location(1, 1, "the file")}, ())
        _fail(name, "the file is empty", f"a YAML mapping with {holds}")
    if not isinstance(root, yaml.MappingNode):
        # One line of a foreign format may be a secret, such as a line of an htpasswd file.
        hidden = environ is None and isinstance(root, yaml.ScalarNode)
        found = f"the file holds {'a single value' if hidden else _describe(root)}"
        _fail(_at(name, root), found, f"a YAML mapping with {holds}")
    builder = _Builder(name, environ)
    data = builder.entries(root, ())
    builder.locations[()] = Location(_line(root), _line(root), "the file")
    return Document(name, data, builder.locations, tuple(builder.faults))


def read_limited(path: Path, limit_bytes: int) -> str:
    """Read a whole UTF-8 text file, its byte-order mark removed.

    Raises:
        ValueError: The file is missing, unreadable, too large or not UTF-8; the message says which
            without naming the file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except IsADirectoryError:
        raise ValueError("this is a directory") from None
    except PermissionError:
        raise ValueError("permission to read it is denied") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the name is not a file name"
        raise ValueError(f"cannot be read ({reason})") from None
    if len(content) > limit_bytes:
        raise ValueError(f"larger than {limit_bytes // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8") from None


def _read_text(path: Path) -> str:
    try:
        return read_limited(path, SIZE_LIMIT_BYTES)
    except ValueError as error:
        expected = "a readable YAML file in UTF-8 of at most 1 MiB"
        fault = Fault(str(path), "", str(error), expected)
    raise ConfigMissing([fault])


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        return DocumentLoader(text).get_single_node()
    except yaml.YAMLError as error:
        line, found, expected = explain(error, text)
        fault = Fault(f"{name}:{line}", "", found, expected)
    raise ConfigError([fault])


def _fail(where: str, found: str, expected: str) -> NoReturn:
    raise ConfigError([Fault(where, "", found, expected)])


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _at(name: str, node: yaml.Node) -> str:
    return f"{name}:{_line(node)}"


def _describe(node: yaml.Node) -> str:
    """Name a value as messages show it: text in quotes, other scalars as written."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node.tag == SAFE_TAGS["null"]:
        return "an empty value"
    # Someone may have put a whole DSN, or a webhook's URL, under the wrong key.
    text = mask_urls(redact(node.value))
    text = text if len(text) <= 60 else text[:57] + "…"
    return repr(text) if node.tag == SAFE_TAGS["str"] else text


Pairs = dict[str, tuple[yaml.Node, yaml.Node]]


@dataclass(slots=True)
class _Builder:
    """Walks the nodes of one file, once, collecting data, locations and faults."""

    name: str
    environ: Mapping[str, str] | None
    locations: dict[KeyPath, Location] = field(default_factory=dict)
    faults: list[tuple[int, KeyPath, Fault]] = field(default_factory=list)
    pairs_of: dict[int, Pairs | None] = field(default_factory=dict)
    visits: int = 0

    def fault(self, line: int, path: KeyPath, found: str, expected: str) -> Unusable:
        fault = Fault(f"{self.name}:{line}", key_text(path), found, expected)
        self.faults.append((line, path, fault))
        return UNUSABLE

    def build(self, node: yaml.Node, path: KeyPath, key_line: int) -> object:
        self.visits += 1
        if self.visits > NODE_LIMIT:
            expected = f"at most {NODE_LIMIT} values in all"
            _fail(_at(self.name, node), "too many values, aliases expanded", expected)
        if len(path) >= DEPTH_LIMIT:  # an alias of what holds it has no end
            expected = f"at most {DEPTH_LIMIT} levels"
            _fail(_at(self.name, node), "nested too deep, aliases expanded", expected)
        line = _line(node) if isinstance(node, yaml.ScalarNode) else key_line
        self.locations[path] = Location(line, key_line, self.show(node))
        if node.tag not in SAFE_TAGS.values():
            expected = "plain YAML, or quotes around a value that begins with !"
            return self.fault(line, path, "has a YAML tag (!)", expected)
        if isinstance(node, yaml.MappingNode):
            return self.entries(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(n, (*path, i), _line(n)) for i, n in enumerate(node.value)]
        return self.scalar(node.tag, node.value, path, line)

    def entries(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        return {
            name: self.build(value, (*path, name), _line(key))
            for name, (key, value) in self.pairs(node, path).items()
        }

    def pairs(self, node: yaml.MappingNode, path: KeyPath) -> Pairs:
        """List a mapping's keys; its own first, then those merged by `<<`, which never override.

        PyYAML's own merge keeps every repetition, so that a few aliases could fill the memory.
        """
        done = self.pairs_of.get(id(node))
        if done is not None:  # behind an alias, whose faults are reported already
            return done
        self.pairs_of[id(node)] = None
        pairs: Pairs = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == SAFE_TAGS["merge"]:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif not isinstance(key, yaml.ScalarNode):
                self.fault(_line(key), path, f"{_describe(key)} stands as a key", "text")
            elif key.value in pairs:
                found = f"set twice, first on line {_line(pairs[key.value][0])}"
                self.fault(_line(key), (*path, key.value), found, "each key once")
            else:
                pairs[key.value] = (key, value)
        for source in merged:
            if (
                isinstance(source, yaml.MappingNode)
                and self.pairs_of.get(id(source), {}) is not None
            ):
                pairs = self.pairs(source, path) | pairs
            else:
                expected = "an alias of a finished one"
                self.fault(_line(source), (*path, "<<"), "does not merge a mapping", expected)
        self.pairs_of[id(node)] = pairs
        return pairs

    def show(self, node: yaml.Node) -> str:
        shown = _describe(node)
        expands = self.environ is not None and isinstance(node, yaml.ScalarNode)
        from_environment = expands and _VARIABLE.search(node.value)
        return f"{shown} (from the environment)" if from_environment else shown

    def scalar(self, tag: str, text: str, path: KeyPath, line: int) -> object:
        if tag == SAFE_TAGS["null"]:
            return None
        if self.environ is None or tag == SAFE_TAGS["str"]:
            return self.expand(text, path, line)
        try:
            return _READERS[tag](text.lower())
        except (KeyError, ValueError):
            return self.fault(line, path, "does not fit its YAML type", "a plain value")

    def expand(self, text: str, path: KeyPath, line: int) -> object:
        """Replace `${NAME}` once, from left to right; what comes in is not looked at again."""
        faults = len(self.faults)
        environ = self.environ or {}

        def replace(match: re.Match[str]) -> str:
            if match["broken"]:
                expected = "${NAME}, or $${ for a plain ${"
                self.fault(line, path, "holds ${ without a variable name and }", expected)
            elif (name := match["name"]) and name not in environ:
                found = f"the environment variable {name} is not set"
                self.fault(line, path, found, f"{name} in the environment")
            elif name:
                return environ[name]
            return "${"

        value = text if self.environ is None else _VARIABLE.sub(replace, text)
        if any("\ud800" <= char <= "\udfff" or char == "\0" for char in value):
            self.fault(line, path, "holds characters that are not UTF-8 text", "text in UTF-8")
        return value if len(self.faults) == faults else UNUSABLE
