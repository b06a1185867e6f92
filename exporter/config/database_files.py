"""Databases that lie in files of their own, one each: `databases_dir`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from exporter.config.document import read_document
from exporter.config.faults import FaultList
from exporter.config.model import Database
from exporter.config.secret_files import read_secret_files
from exporter.config.values import Name, Surroundings
from exporter.errors import ConfigError, Fault

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def read_database_files(
    folder: Path, environ: Mapping[str, str], surroundings: Surroundings
) -> tuple[dict[str, Database], list[Fault]]:
    """Return the database of each `*.yaml` in a folder by its name, and every fault of every file.

    Args:
        folder: Other files in it, and hidden ones, are left alone.
        environ: Where `${NAME}` in values is looked up.
        surroundings: What values are checked against; paths are relative to the configuration.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".yaml")
    except OSError as error:
        return {}, [Fault(str(folder), "", f"cannot be read ({error.strerror})", "a folder")]
    databases: dict[str, Database] = {}
    faults: list[Fault] = []
    for file in files:
        if file.name.startswith("."):
            continue
        try:
            _NAME.validate_python(file.stem)
            databases[file.stem] = _read(file, environ, surroundings)
        except ConfigError as error:
            faults.extend(error.faults)
        except ValidationError:
            expected = "1 to 63 letters, digits, _, . or -"
            faults.append(Fault(str(file), "", f"{file.stem!r} is not a name", expected))
    return databases, faults


def _read(file: Path, environ: Mapping[str, str], surroundings: Surroundings) -> Database:
    """One file's database; ConfigError where it cannot be used."""
    document = read_document(file, environ, holds="at least dsn or dsn_file")
    faults = FaultList(document, Database)
    read_secret_files(document, surroundings, faults, (((), ("dsn", "release_dsn")),))
    database: Database | None = None
    try:
        database = Database.model_validate(document.data, context=surroundings)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add_refusal(detail)
    found = faults.sorted()
    if found or database is None:
        raise ConfigError(found)
    return database
