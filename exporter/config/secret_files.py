"""Secrets that lie in files of their own: `dsn_file` for `dsn`, and its like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import PydanticCustomError

from exporter.config.document import Document, KeyPath, read_limited
from exporter.config.faults import FaultList
from exporter.config.logs import SECRET_FORM, read_secret
from exporter.config.notify import URL_FORM, read_url
from exporter.config.prometheus import HEADER_FORM, read_header_secret
from exporter.config.values import read_dsn

_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Secret:
    """A key whose value may come from the file that `<key>_file` names.

    Attributes:
        key: Of the value itself.
        read: Refuses what cannot be such a value, with PydanticCustomError.
        form: What the file should hold.
        placeholder: Keeps a missing value from being reported on top of the true fault.
        is_required: Whether one of the two keys must be there.
    """

    key: str
    read: Callable[[object], object]
    form: str
    placeholder: str
    is_required: bool

    @property
    def file_key(self) -> str:
        return f"{self.key}_file"


_DSN_FORM = "a connection string such as postgresql://… or host=… dbname=…"
_DSN = _Secret("dsn", read_dsn, _DSN_FORM, "host=", is_required=True)
_RELEASE_DSN = _Secret("release_dsn", read_dsn, _DSN_FORM, "host=", is_required=False)
_URL = _Secret("url", read_url, URL_FORM, "http://localhost", is_required=True)
_TOKEN = _Secret("token", read_secret, SECRET_FORM, "x" * 16, is_required=False)
_SIGNING = _Secret("secret", read_secret, SECRET_FORM, "x" * 16, is_required=False)
_PASSWORD = _Secret("password", read_header_secret, HEADER_FORM, "x", is_required=False)
_BEARER = _Secret("bearer_token", read_header_secret, HEADER_FORM, "x", is_required=False)


def read_secret_files(document: Document, folder: Path, faults: FaultList) -> None:
    """Put the content of every secret's file where the secret itself would stand.

    Args:
        document: Changed in place; paths of files become absolute.
        folder: What those paths are relative to.
        faults: Where a file cannot be used, or both keys or neither are given.
    """
    for path, section in _sections(document, "databases"):
        _fill(section, _DSN, path, folder, faults)
        _fill(section, _RELEASE_DSN, path, folder, faults)
    for path, section in _sections(document, "notify", "webhooks"):
        _fill(section, _URL, path, folder, faults)
    for path, section in _sections(document, "logs", "receivers"):
        _fill(section, _TOKEN, path, folder, faults)
        _fill(section, _SIGNING, path, folder, faults)
    prometheus = document.data.get("prometheus")
    if isinstance(prometheus, dict):
        _fill(prometheus, _PASSWORD, ("prometheus",), folder, faults)
        _fill(prometheus, _BEARER, ("prometheus",), folder, faults)


def _sections(document: Document, *keys: str) -> Iterator[tuple[KeyPath, dict[str, object]]]:
    """The sections by name below a key; what has another shape is for the model to refuse."""
    found: object = document.data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    for name, entry in found.items() if isinstance(found, dict) else ():
        section = {} if entry is None else entry
        if isinstance(section, dict):
            yield (*keys, name), section


def _fill(
    section: dict[str, object], secret: _Secret, path: KeyPath, folder: Path, faults: FaultList
) -> None:
    key, file_key = secret.key, secret.file_key
    if key in section and file_key in section:
        found = f"stands beside {key}"
        faults.add((*path, file_key), found, "only one of the two", at_key=True)
    elif file_key in section:
        value = section[file_key]
        section[key] = _read(value, secret, (*path, file_key), folder, faults)
        if value and isinstance(value, str):
            section[file_key] = str(folder / value)
    elif secret.is_required and key not in section:
        found = f"neither {key} nor {file_key} is given"
        faults.add((*path, key), found, "exactly one of them")


def _read(
    value: object, secret: _Secret, path: KeyPath, folder: Path, faults: FaultList
) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        return secret.placeholder  # the model says why
    try:
        if value is None:
            raise ValueError("no file is named")
        text = read_limited(folder / value, _LIMIT_BYTES).strip()
        secret.read(text)
        return text
    except PydanticCustomError as error:
        problem = f"its content {(error.context or {})['problem']}"
    except ValueError as error:
        problem = str(error)
    faults.add(path, f"{faults.shown(path)}: {problem}", f"a file holding {secret.form}")
    return secret.placeholder
