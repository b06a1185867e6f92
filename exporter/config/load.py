"""A file on disk → `Config`, or every fault in it at once.

Owns the order of things: read, fill in what lies in other files, validate, report.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from exporter.config.document import Document, KeyPath, read_document
from exporter.config.faults import FaultList
from exporter.config.model import Config
from exporter.config.secret_files import read_secret_files
from exporter.errors import ConfigError

CheckDsn = Callable[[str], tuple[str, str] | None]


def load_config(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    check_dsn: CheckDsn = lambda _: None,
) -> Config:
    """Load and check the configuration; what is returned can be used as it is.

    Args:
        path: The YAML file. Paths in it are relative to its folder.
        environ: Where `${NAME}` in values is looked up.
        check_dsn: Says what is wrong with a connection string and what was expected, without
            showing a secret, or None.

    Returns:
        The configuration, defaults filled in, secrets read from their files, paths absolute. Two
        loads of the same content are equal.

    Raises:
        ConfigError: With every fault of the file, in line order; never with a secret.
    """
    document = read_document(path, environ)
    faults = FaultList(document)
    folder = path.absolute().parent
    read_secret_files(document, folder, environ, faults)
    _check_dsns(document, check_dsn, faults)
    _find_query_folders(document, folder, faults)
    _make_log_files_absolute(document, folder)
    _place_state_file(document, folder)
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


def _check_dsns(document: Document, check_dsn: CheckDsn, faults: FaultList) -> None:
    """Ask of every connection string what is wrong with it."""
    databases = document.data.get("databases")
    for name, entry in databases.items() if isinstance(databases, dict) else ():
        for key in ("dsn", "release_dsn") if isinstance(entry, dict) else ():
            dsn = entry.get(key)
            problem = check_dsn(dsn) if isinstance(dsn, str) and dsn.strip() else None
            if problem:
                file_key = f"{key}_file"
                where = file_key if file_key in entry else key
                faults.add(("databases", name, where), *problem)


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


def _make_log_files_absolute(document: Document, folder: Path) -> None:
    """Make `logs.files` absolute; none of them has to exist."""
    logs = document.data.get("logs")
    files = logs.get("files") if isinstance(logs, dict) else None
    if isinstance(files, dict):
        for name, value in files.items():
            if isinstance(value, str) and value:
                files[name] = str(folder / value)


def _place_state_file(document: Document, folder: Path) -> None:
    """Make `watch.digests.state_file` absolute; what has another shape is for the model."""
    section: object = document.data
    for key in ("watch", "digests"):
        section = section.get(key) if isinstance(section, dict) else None
    path = section.get("state_file") if isinstance(section, dict) else None
    if isinstance(section, dict) and path and isinstance(path, str):
        section["state_file"] = str(folder / path)
