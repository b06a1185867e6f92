"""A file on disk → `Config`, or every fault in it at once.

Owns the order of things: read, fill in what lies in other files, validate, report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from exporter.config.database_files import read_database_files
from exporter.config.document import Document, read_document
from exporter.config.faults import FaultList
from exporter.config.model import Config
from exporter.config.secret_files import read_secret_files
from exporter.config.shard import Shard
from exporter.config.values import CheckDsn, Surroundings
from exporter.errors import ConfigError, Fault


def load_config(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    check_dsn: CheckDsn = lambda _: None,
    shard: Shard | None = None,
) -> Config:
    """Load and check the configuration; what is returned can be used as it is.

    Args:
        path: The YAML file. Paths in it are relative to its folder.
        environ: Where `${NAME}` in values is looked up.
        check_dsn: Says what is wrong with a connection string and what was expected, without
            showing a secret, or None.
        shard: Leaves the databases of other shards out; by default there is one shard.

    Returns:
        The configuration, defaults filled in, secrets read from their files, paths absolute. Two
        loads of the same content are equal.

    Raises:
        ConfigError: With every fault of the file, in line order; never with a secret.
    """
    document = read_document(path, environ)
    faults = FaultList(document, Config)
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    surroundings = Surroundings(
        folder=path.absolute().parent,
        credentials=Path(credentials) if credentials else None,
        check_dsn=check_dsn,
    )
    read_secret_files(document, surroundings, faults)
    others = _add_databases(document, environ, surroundings, faults)
    config: Config | None = None
    try:
        config = Config.model_validate(document.data, context=surroundings)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add_refusal(detail)
    found = [*faults.sorted(), *others]
    # Raised outside the handler: pydantic's error knows the input, and tracebacks show causes.
    if found or config is None:
        raise ConfigError(found)
    if shard is None:
        return config
    mine = {name: section for name, section in config.databases.items() if shard.takes(name)}
    return config.model_copy(update={"databases": mine})


def _add_databases(
    document: Document,
    environ: Mapping[str, str],
    surroundings: Surroundings,
    faults: FaultList,
) -> list[Fault]:
    """Put the databases of `databases_dir` beside the others; return the faults of their files."""
    data, key = document.data, "databases"
    is_there, given = key in data, data.get(key)
    folder = data.get("databases_dir")
    if given is None:
        given = data[key] = {}
    if not isinstance(given, dict):
        return []  # the model says why
    if not isinstance(folder, str) or not folder:
        if not given and folder is None:
            found = f"{faults.shown((key,))} has no entries" if is_there else "missing"
            faults.add((key,), found, "at least one, or databases_dir")
        return []
    more, others = read_database_files(surroundings.folder / folder, environ, surroundings)
    for name in more.keys() & given.keys():
        expected = f"only one of this and {Path(folder) / name}.yaml"
        faults.add((key, name), "stands twice", expected, at_key=True)
    data[key] = {**given, **more}
    return others
