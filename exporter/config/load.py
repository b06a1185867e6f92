"""A file on disk → `Config`, or every fault in it at once.

Owns the order of things: read, fill in what lies in other files, validate, report.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from exporter.config.document import Document, KeyPath, read_document, read_limited
from exporter.config.faults import FaultList
from exporter.config.model import Config
from exporter.config.values import read_dsn
from exporter.errors import ConfigError

DSN_FORM = "a postgresql:// URI, its password percent-encoded, or key=value pairs"
_DSN_FILE_LIMIT_BYTES = 64 * 1024


def load_config(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    check_dsn: Callable[[str], str | None] = lambda _: None,
) -> Config:
    """Load and check the configuration; what is returned can be used as it is.

    Args:
        path: The YAML file. Paths in it are relative to its folder.
        environ: Where `${NAME}` in values is looked up.
        check_dsn: Says what is wrong with a connection string, without showing any of it, or None.

    Returns:
        The configuration, defaults filled in, `dsn_file` read, paths absolute. Two loads of the
        same content are equal.

    Raises:
        ConfigError: With every fault of the file, in line order; never with a secret.
    """
    document = read_document(path, environ)
    faults = FaultList(document)
    folder = path.absolute().parent
    _read_dsn_files(document, folder, faults)
    _check_dsns(document, check_dsn, faults)
    _find_query_folders(document, folder, faults)
    config: Config | None = None
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add_refusal(detail, Config)
    found = faults.sorted()
    # Raised outside the handler: pydantic's error knows the input, and tracebacks show causes.
    if found or config is None:
        raise ConfigError(found)
    return config


def _read_dsn_files(document: Document, folder: Path, faults: FaultList) -> None:
    """Put the content of every `dsn_file` where its `dsn` would stand."""
    databases = document.data.get("databases")
    if not isinstance(databases, dict):
        return
    for name, entry in databases.items():
        path: KeyPath = ("databases", name)
        database = {} if entry is None else entry
        if not isinstance(database, dict):
            continue
        if "dsn" in database and "dsn_file" in database:
            faults.add((*path, "dsn_file"), "stands beside dsn", "only one of the two", at_key=True)
        elif "dsn_file" in database:
            database["dsn"] = _read_dsn_file(database["dsn_file"], folder, faults, path)
            if database["dsn_file"] and isinstance(database["dsn_file"], str):
                database["dsn_file"] = str(folder / database["dsn_file"])
        elif "dsn" not in database:
            faults.add((*path, "dsn"), "neither dsn nor dsn_file is given", "exactly one of them")
        _read_release_dsn_file(database, folder, faults, path)


def _read_release_dsn_file(
    database: dict[str, object], folder: Path, faults: FaultList, path: KeyPath
) -> None:
    """The same for the releaser's, which may be left out."""
    key = "release_dsn_file"
    if key not in database:
        return
    if "release_dsn" in database:
        found = "stands beside release_dsn"
        faults.add((*path, key), found, "only one of the two", at_key=True)
        return
    value = database[key]
    database["release_dsn"] = _read_dsn_file(value, folder, faults, path, key)
    if value and isinstance(value, str):
        database[key] = str(folder / value)


def _check_dsns(
    document: Document, check_dsn: Callable[[str], str | None], faults: FaultList
) -> None:
    """Ask of every connection string what is wrong with it."""
    databases = document.data.get("databases")
    for name, entry in databases.items() if isinstance(databases, dict) else ():
        for key in ("dsn", "release_dsn") if isinstance(entry, dict) else ():
            dsn = entry.get(key)
            problem = check_dsn(dsn) if isinstance(dsn, str) and dsn.strip() else None
            if problem:
                file_key = f"{key}_file"
                where = file_key if file_key in entry else key
                faults.add(("databases", name, where), problem, DSN_FORM)


def _read_dsn_file(
    value: object, folder: Path, faults: FaultList, path: KeyPath, key: str = "dsn_file"
) -> str:
    # The placeholder keeps a missing dsn from being reported on top of the true fault.
    placeholder = "host="
    if value is not None and (not isinstance(value, str) or not value):
        return placeholder  # the model says why
    expected = "a file holding a connection string such as postgresql://… or host=… dbname=…"
    try:
        if value is None:
            raise ValueError("no file is named")
        return read_dsn(read_limited(folder / value, _DSN_FILE_LIMIT_BYTES).strip())
    except PydanticCustomError as error:
        problem = f"its content {(error.context or {})['problem']}"
    except ValueError as error:
        problem = str(error)
    faults.add((*path, key), f"{faults.shown((*path, key))}: {problem}", expected)
    return placeholder


def _find_query_folders(document: Document, folder: Path, faults: FaultList) -> None:
    """Make `queries.dirs` absolute, and see that each is a folder."""
    queries = document.data.get("queries")
    dirs = queries.get("dirs") if isinstance(queries, dict) else None
    if not isinstance(dirs, list):
        return
    for index, value in enumerate(dirs):
        if not isinstance(value, str) or not value:
            continue
        path: KeyPath = ("queries", "dirs", index)
        if not (folder / value).is_dir():
            faults.add(path, f"{faults.shown(path)} is not a folder", "a folder with queries")
        dirs[index] = str(folder / value)
