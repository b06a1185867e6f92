"""A file on disk → `Config`, or every fault in it at once.

Owns the order of things: read, fill in what lies in other files, validate, report.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from exporter.config.document import read_document
from exporter.config.faults import FaultList
from exporter.config.model import Config
from exporter.config.secret_files import read_secret_files
from exporter.config.values import CheckDsn, Surroundings
from exporter.errors import ConfigError


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
    faults = FaultList(document, Config)
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    surroundings = Surroundings(
        folder=path.absolute().parent,
        credentials=Path(credentials) if credentials else None,
        check_dsn=check_dsn,
    )
    read_secret_files(document, surroundings, faults)
    config: Config | None = None
    try:
        config = Config.model_validate(document.data, context=surroundings)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add_refusal(detail)
    found = faults.sorted()
    # Raised outside the handler: pydantic's error knows the input, and tracebacks show causes.
    if found or config is None:
        raise ConfigError(found)
    return config
