"""What pydantic found wrong, in the operator's words: file, line, key, found, expected."""

from __future__ import annotations

import difflib
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from exporter.config.document import Document, KeyPath, key_text
from exporter.errors import Fault
from exporter.text import format_duration


class FaultList:
    """Gathers the faults of one document, at most one a key, and gives them in line order."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._faults = list(document.faults)
        self._paths = {path for _, path, _ in document.faults}

    def add(self, path: KeyPath, found: str, expected: str, *, at_key: bool = False) -> None:
        """Report a fault at a key, unless one was reported there or above it already."""
        if any(path[:length] in self._paths for length in range(1, len(path) + 1)):
            return
        line = self._line(path, at_key=at_key)
        fault = Fault(f"{self._document.name}:{line}", key_text(path), found, expected)
        self._faults.append((line, path, fault))
        self._paths.add(path)

    def add_refusal(self, error: ErrorDetails, root: type[BaseModel]) -> None:
        """Report one of pydantic's errors."""
        path: KeyPath = error["loc"]
        of_key = bool(path) and path[-1] == "[key]"
        if of_key:
            path = path[:-1]
        shown = repr(path[-1]) if of_key else self._show(path, error["input"], root)
        found, expected = _words(error, path, root)
        bare = error["type"] in ("extra_forbidden", "missing") or error.get("ctx", {}).get("bare")
        found = found if bare else f"{shown} {found}"
        self.add(path, found, expected, at_key=of_key or error["type"] == "extra_forbidden")

    def has(self, path: KeyPath) -> bool:
        """Say whether a fault was reported at this very key."""
        return path in self._paths

    def sorted(self) -> list[Fault]:
        """Give the faults in the order of the file."""
        return [fault for _, _, fault in sorted(self._faults, key=lambda entry: entry[0])]

    def shown(self, path: KeyPath) -> str:
        """Give a value as it stands in the file, fit for a message."""
        return self._document.locations[path].shown

    def _show(self, path: KeyPath, value: object, root: type[BaseModel]) -> str:
        if _is_secret(_kind_at(root, path)):
            return "the value"
        if path in self._document.locations:
            return self.shown(path)
        # Not in the file, and yet refused: a default that no longer fits its neighbour.
        return f"the default {format_duration(value) if isinstance(value, timedelta) else value}"

    def _line(self, path: KeyPath, *, at_key: bool) -> int:
        while path not in self._document.locations:
            path = path[:-1]
        location = self._document.locations[path]
        return location.key_line if at_key else location.line


# pydantic's names for "not this shape": found, expected ({keys} are the section's).
_SHAPES = {
    "missing": ("missing", "at least one database"),
    "model_type": ("is not a mapping", "a mapping with {keys}"),
    "dict_type": ("is not a mapping", "a mapping, one name: value a line"),
    "mapping_type": ("is not a mapping", "a mapping, one name: value a line"),
    "tuple_type": ("is not a list", "a list such as [one, two]"),
}


def _words(error: ErrorDetails, path: KeyPath, root: type[BaseModel]) -> tuple[str, str]:
    """Translate an error into what follows the value, and what was expected."""
    context: dict[str, Any] = error.get("ctx", {})
    if error["type"] == "fault":
        return context["problem"], context["expected"]
    if error["type"] == "extra_forbidden":
        return "unknown key", _nearest(str(path[-1]), _keys_at(root, path[:-1]))
    if error["type"] == "literal_error":
        return "is not known", context["expected"].replace("'", "")
    found, expected = _SHAPES.get(error["type"], ("is not valid", "another value"))
    return found, expected.format(keys=_listed(_keys_at(root, path)))


def _nearest(key: str, known: list[str]) -> str:
    expected = f"one of {_listed(known)}"
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    return f"{expected}; did you mean {close[0]}?" if close else expected


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _kind_at(root: type[BaseModel], path: KeyPath) -> Any:
    """Find the type of a key by walking the model; None where the model does not know it."""
    kind: Any = root
    for part in path:
        if _is_section(kind):
            field = _fields(kind).get(str(part))
            kind = _plain(field.annotation) if field else None
        else:
            # A mapping's values, a list's entries.
            arguments = [argument for argument in get_args(kind) if argument is not ...]
            kind = _plain(arguments[-1]) if arguments else None
    return kind


def _plain(kind: Any) -> Any:
    """Take `Annotated` and `| None` off a type."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        kinds = [argument for argument in get_args(kind) if argument is not NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else None
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_secret(kind: Any) -> bool:
    """Whether a value is a secret, or may hold some: `users: hunter2` is one in a wrong place."""
    return kind is SecretStr or any(_is_secret(_plain(part)) for part in get_args(kind))


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """Give a section's fields by the keys which the file has for them."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _keys_at(root: type[BaseModel], path: KeyPath) -> list[str]:
    kind = _kind_at(root, path)
    return list(_fields(kind)) if _is_section(kind) else []
