"""What pydantic found wrong, in the operator's words: file, line, key, found, expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from exporter.config.document import UNUSABLE, Document, KeyPath, key_text
from exporter.config.durations import DURATION_FORM
from exporter.config.values import Form, Or
from exporter.errors import Fault
from exporter.text import format_duration

M = TypeVar("M")


# What pydantic refuses → what follows the value in a message, and what is expected.
_REFUSALS = {
    **dict.fromkeys(("bool_type", "bool_parsing"), ("is not a switch", "true or false")),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_parsing_size", "int_from_float"),
        ("is not a whole number", "digits such as 10"),
    ),
    **dict.fromkeys(("float_type", "float_parsing"), ("is not a number", "a number such as 0.9")),
    **dict.fromkeys(("string_type", "path_type"), ("is not text", "{text}")),
    **dict.fromkeys(
        ("dict_type", "mapping_type"),
        ("is not a mapping", "a mapping, one name: value per line"),
    ),
    "extra_forbidden": ("unknown key", "{nearest}"),
    "finite_number": ("is not a finite number", "a number such as 0.9"),
    "greater_than": ("is too small", "more than {bound}"),
    "greater_than_equal": ("is too {small}", "{bound} or more"),
    "less_than": ("is too large", "less than {bound}"),
    "less_than_equal": ("is too {large}", "{bound} or less"),
    "literal_error": ("is not known", "{choices}"),
    "missing": ("missing", "at least one"),
    "model_type": ("is not a mapping", "a mapping with {keys}"),
    "string_pattern_mismatch": ("has another form", "another form"),
    "string_too_short": ("is empty", "text"),
    "time_delta_type": ("is not a duration", DURATION_FORM),
    "too_long": ("has {actual_length} entries", "at most {max_length}"),
    "too_short": ("has no entries", "at least one"),
    "tuple_type": ("is not a list", "a list such as [one, two]"),
}


class FaultList:
    """Gathers the faults of one document, at most one per key, in line order.

    Args:
        document: What was read.
        root: The model it is checked against.
    """

    def __init__(self, document: Document, root: type[BaseModel]) -> None:
        self._document = document
        self._root = root
        self._faults = list(document.faults)
        self._paths = {path for _, path, _ in document.faults}
        self._files: dict[KeyPath, KeyPath] = {}

    def add(self, path: KeyPath, found: str, expected: str, *, at_key: bool = False) -> None:
        """Report a fault at a key, unless one was reported there or above it already."""
        if any(path[:length] in self._paths for length in range(1, len(path) + 1)):
            return
        line = self._line(path, at_key=at_key)
        fault = Fault(f"{self._document.name}:{line}", key_text(path), found, expected)
        self._faults.append((line, path, fault))
        self._paths.add(path)

    def redirect(self, path: KeyPath, file_path: KeyPath) -> None:
        """Report what is wrong with a secret at the key which names the secret's file."""
        self._files[path] = file_path

    def add_refusal(self, error: ErrorDetails) -> None:
        """Report one of pydantic's errors, unless its value is unusable for a reported reason."""
        path: KeyPath = error["loc"]
        if error["input"] is UNUSABLE:
            return
        key = _key_at(self._root, path)
        found, expected = _words(error, key, _key_at(self._root, path[:-1]))
        of_key = bool(path) and path[-1] == "[key]"
        if of_key:
            path = path[:-1]
        of_section = error["type"] in ("extra_forbidden", "missing")
        is_bare = of_section or error.get("ctx", {}).get("bare")
        if path in self._files:
            path = self._files[path]
            found = found if is_bare else f"{self.shown(path)}: its content {found}"
            expected = expected if is_bare else f"a file holding {expected}"
        elif not is_bare:
            shown = repr(path[-1]) if of_key else self._show(path, error["input"], key)
            found = f"{shown} {found}"
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

    def form(self, path: KeyPath) -> str:
        """Give the form that a key's value must have."""
        form = _key_at(self._root, path).mark(Form)
        return form.expected if form else "text"

    def _show(self, path: KeyPath, value: object, key: _Key) -> str:
        if key.is_secret:
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


@dataclass(frozen=True, slots=True)
class _Key:
    """What the model says of a key.

    Attributes:
        kind: The type of its value, without `Annotated` and `| None`; None where unknown.
        marks: What `Annotated` holds.
    """

    kind: Any
    marks: tuple[object, ...] = ()

    def mark(self, kind: type[M]) -> M | None:
        """The mark of a class, or None."""
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)

    @property
    def fields(self) -> dict[str, FieldInfo]:
        """A section's fields by the keys which the file has for them."""
        if not isinstance(self.kind, type) or not issubclass(self.kind, BaseModel):
            return {}
        return {field.alias or name: field for name, field in self.kind.model_fields.items()}

    @property
    def is_secret(self) -> bool:
        """Whether a value is a secret, or may hold some: `users: hunter2` is one out of place."""
        parts = (_key(part) for part in get_args(self.kind))
        return self.kind is SecretStr or any(part.is_secret for part in parts)


def _key(kind: Any, marks: tuple[object, ...] = ()) -> _Key:
    """Take `Annotated` and `| None` off a type."""
    if get_origin(kind) is Annotated:
        return _key(get_args(kind)[0], (*marks, *kind.__metadata__))
    if get_origin(kind) in (Union, UnionType):
        kinds = [argument for argument in get_args(kind) if argument is not NoneType]
        return _key(kinds[0], marks) if len(kinds) == 1 else _Key(None, marks)
    return _Key(kind, marks)


def _key_at(root: type[BaseModel], path: KeyPath) -> _Key:
    """Find a key by walking the model; behind a name, `[key]` stands for the name itself."""
    of_key = path[-1:] == ("[key]",)
    key = _Key(root)
    for part in path[:-2] if of_key else path:
        if key.fields:
            field = key.fields.get(str(part))
            key = _key(field.annotation, tuple(field.metadata)) if field else _Key(None)
        else:
            # A mapping's values, a list's entries.
            arguments = [argument for argument in get_args(key.kind) if argument is not ...]
            key = _key(arguments[-1]) if arguments else _Key(None)
    return _key(get_args(key.kind)[0]) if of_key else key


def _words(error: ErrorDetails, key: _Key, parent: _Key) -> tuple[str, str]:
    """Translate an error into what follows the value, and what was expected."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    name = str(error["loc"][-1])
    if kind == "missing" and f"{name}_file" in parent.fields:
        return f"neither {name} nor {name}_file is given", "exactly one of them"
    if kind == "fault":
        found, expected = context["problem"], context["expected"]
    else:
        found, expected = _REFUSALS.get(kind, ("is not valid", "another value"))
        bound, is_duration = _bound(context)
        words = {
            "bound": bound,
            "small": "short" if is_duration else "small",
            "large": "long" if is_duration else "large",
            "choices": context.get("expected", "").replace("'", ""),
            "keys": ", ".join(key.fields),
            "nearest": _nearest(name, list(parent.fields)),
            "text": "text in quotes" if isinstance(value, bool | int | float) else "text",
        }
        found, expected = found.format(**words, **context), expected.format(**words, **context)
    form, word = key.mark(Form), key.mark(Or)
    if form is not None and kind.startswith("string_"):
        found = form.problem if kind == "string_pattern_mismatch" else found
        expected = form.expected
    if value is None and kind not in ("extra_forbidden", "fault", "missing"):
        found = "is empty" if key.is_secret else "is given"
    return found, f"{expected}, or {word.word}" if word else expected


def _bound(context: Mapping[str, Any]) -> tuple[str, bool]:
    """Write the bound of a value as the file would, and say whether it is a duration."""
    bound = next((context[key] for key in ("ge", "gt", "le", "lt") if key in context), 0)
    if not isinstance(bound, str):
        return f"{bound:.10g}", False
    # pydantic gives a timedelta as its repr.
    units = {unit: int(count) for unit, count in re.findall(r"(\w+)=(\d+)", bound)}
    return format_duration(timedelta(**units)), True


def _nearest(key: str, known: list[str]) -> str:
    expected = f"one of {', '.join(known)}"
    close = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5)
    return f"{expected}; did you mean {close[0]}?" if close else expected
