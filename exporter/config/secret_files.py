"""Secrets that lie in files of their own: `dsn_file` for `dsn`, and its like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


@dataclass(frozen=True, slots=True)
class _Folders:
    """Where a relative path is looked for.

    Attributes:
        home: The configuration's own folder.
        credentials: systemd's copies, readable by the service alone; they come first.
    """

    home: Path
    credentials: Path | None

    def locate(self, value: str) -> Path:
        """The file a path means, whether it exists or not."""
        if self.credentials is not None and Path(value).name == value:
            copy = self.credentials / value
            if copy.is_file():
                return copy
        return self.home / value


def read_secret_files(
    document: Document, folder: Path, environ: Mapping[str, str], faults: FaultList
) -> None:
    """Put the content of every secret's file where the secret itself would stand.

    Args:
        document: Changed in place; paths of files become absolute.
        folder: What those paths are relative to.
        environ: Its CREDENTIALS_DIRECTORY, as systemd sets it, is where a bare name is found first.
        faults: Where a file cannot be used, or both keys or neither are given.
    """
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    folders = _Folders(folder, Path(credentials) if credentials else None)
    for path, section in _sections(document, "databases"):
        _fill(section, _DSN, path, folders, faults)
        _fill(section, _RELEASE_DSN, path, folders, faults)
    for path, section in _sections(document, "notify", "webhooks"):
        _fill(section, _URL, path, folders, faults)
    for path, section in _sections(document, "logs", "receivers"):
        _fill(section, _TOKEN, path, folders, faults)
        _fill(section, _SIGNING, path, folders, faults)
    prometheus = document.data.get("prometheus")
    if isinstance(prometheus, dict):
        _fill(prometheus, _PASSWORD, ("prometheus",), folders, faults)
        _fill(prometheus, _BEARER, ("prometheus",), folders, faults)


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
    section: dict[str, object], secret: _Secret, path: KeyPath, folders: _Folders, faults: FaultList
) -> None:
    key, file_key = secret.key, secret.file_key
    if key in section and file_key in section:
        found = f"stands beside {key}"
        faults.add((*path, file_key), found, "only one of the two", at_key=True)
    elif file_key in section:
        value = section[file_key]
        section[key] = _read(value, secret, (*path, file_key), folders, faults)
        if value and isinstance(value, str):
            section[file_key] = str(folders.locate(value))
    elif secret.is_required and key not in section:
        found = f"neither {key} nor {file_key} is given"
        faults.add((*path, key), found, "exactly one of them")


def _read(
    value: object, secret: _Secret, path: KeyPath, folders: _Folders, faults: FaultList
) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        return secret.placeholder  # the model says why
    try:
        if value is None:
            raise ValueError("no file is named")
        text = read_limited(folders.locate(value), _LIMIT_BYTES).strip()
        secret.read(text)
        return text
    except PydanticCustomError as error:
        problem = f"its content {(error.context or {})['problem']}"
    except ValueError as error:
        problem = str(error)
    faults.add(path, f"{faults.shown(path)}: {problem}", f"a file holding {secret.form}")
    return secret.placeholder
