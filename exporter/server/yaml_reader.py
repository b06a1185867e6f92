"""YAML with line numbers: sections that are read key by key and collect every fault."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml

from exporter.errors import Fault


class YamlReader:
    """Reads one file.

    Attributes:
        faults: Found so far, in the order of finding.

    Args:
        name: How messages call the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[Fault] = []

    def load(self, path: Path) -> yaml.Node | None:
        """Give the root node; None for an empty file, or with a fault if it cannot be read."""
        try:
            return yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            self.faults.append(Fault(self.name, "", str(error.strerror), "a readable file"))
        except UnicodeDecodeError:
            self.faults.append(Fault(self.name, "", "not UTF-8", "YAML in UTF-8"))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = self.name if mark is None else f"{self.name}:{mark.line + 1}"
            self.faults.append(Fault(where, "", str(error.problem or error.context), "YAML"))
        except yaml.YAMLError:  # ReaderError quotes what it found, which may be a secret
            self.faults.append(Fault(self.name, "", "a character YAML forbids", "YAML"))
        return None

    def section(self, node: yaml.Node, key: str) -> Section | None:
        """Give a mapping's keys; None for an absent value (`key:` alone), or with a fault."""
        if isinstance(node, yaml.MappingNode):
            return Section(self, node, key)
        if not _is_null(node):
            self.faults.append(Fault(self.where(node), key, _kind(node), "a mapping"))
        return None

    def where(self, node: yaml.Node) -> str:
        """Give `file:line` of a node."""
        return f"{self.name}:{node.start_mark.line + 1}"


class Section:
    """One mapping of the file; each key is taken once, `finish` reports those that were not.

    Attributes:
        where: `file:line` of each key, by its dotted path; the empty key is the section itself.
    """

    def __init__(self, reader: YamlReader, node: yaml.MappingNode, key: str) -> None:
        self._reader = reader
        self._prefix = f"{key}." if key else ""
        self._nodes: dict[str, yaml.Node] = {}
        self._known: list[str] = []
        self.where = {"": reader.where(node)}
        for name_node, value in node.value:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else _kind(name_node)
            if name in self._nodes:
                where = reader.where(name_node)
                reader.faults.append(
                    Fault(where, self._prefix + name, "given twice", "one value a key")
                )
            self._nodes[name] = value
            self.where[name] = reader.where(name_node)

    @property
    def names(self) -> tuple[str, ...]:
        """Every key, in the file's order."""
        return tuple(self._nodes)

    def take(self, name: str) -> yaml.Node | None:
        """Give a key's node; None where it is absent or empty."""
        self._known.append(name)
        node = self._nodes.get(name)
        return None if node is None or _is_null(node) else node

    def fault(self, name: str, found: str, expected: str) -> None:
        """Report what is wrong with a key, or with the section where the key is absent."""
        where = self.where.get(name, self.where[""])
        self._reader.faults.append(Fault(where, self._prefix + name, found, expected))

    def section(self, name: str) -> Section | None:
        """Give a sub-section, if it is there."""
        node = self.take(name)
        return None if node is None else self._reader.section(node, self._prefix + name)

    def text(self, name: str) -> str | None:
        """Give a scalar as it is written, if it is there."""
        node = self.take(name)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode):
            self.fault(name, _kind(node), "a text")
            return None
        return str(node.value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Give a list of scalars; empty where it is absent."""
        node = self.take(name)
        if node is None:
            return ()
        if isinstance(node, yaml.SequenceNode) and all(
            isinstance(item, yaml.ScalarNode) for item in node.value
        ):
            return tuple(str(item.value) for item in node.value)
        self.fault(name, _kind(node), "a list of texts")
        return ()

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """Give one of the allowed values, if it is there."""
        value = self.text(name)
        if value is not None and value not in allowed:
            self.fault(name, repr(value), f"one of {', '.join(allowed)}")
            return None
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Give a boolean."""
        node = self.take(name)
        if node is None:
            return default
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
            return bool(yaml.SafeLoader.bool_values[node.value.lower()])
        shown = repr(node.value) if isinstance(node, yaml.ScalarNode) else _kind(node)
        self.fault(name, shown, "true or false")
        return default

    def path(self, name: str, folder: Path, *, required: bool = False) -> Path | None:
        """Give a path, relative ones from the folder."""
        value = self.text(name)
        if value:
            return folder / value
        if required or value == "":
            self.fault(name, "missing", "the path of a PEM file")
        return None

    def finish(self) -> None:
        """Report every key that nobody asked for."""
        for name in self._nodes:
            if name not in self._known:
                close = difflib.get_close_matches(name, self._known, n=1)
                hint = f"{close[0]}?" if close else f"one of {', '.join(self._known)}"
                self.fault(name, "unknown key", hint)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _kind(node: yaml.Node) -> str:
    """Name a node's form without showing its value."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
