"""Pairs of `.sql` and `.yaml` files: which there are, and what they hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from exporter.catalogue.mapping import EXPECTED_KEYS
from exporter.config.document import read_document, read_limited
from exporter.config.faults import FaultList
from exporter.config.section import Section
from exporter.errors import Fault

_SQL_LIMIT_BYTES = 256 * 1024
M = TypeVar("M", bound=Section)


def list_pairs(folder: Path, form: str, kind: str, expected: str, faults: list[Fault]) -> list[str]:
    """Return the sorted names of a folder's pairs; a file without its partner is a fault.

    Args:
        folder: May be missing.
        form: Regular expression of a name.
        kind: What the names are for, for messages.
        expected: The form in words.
        faults: Gets what is wrong.
    """
    found = {
        suffix: {path.stem for path in folder.glob(f"*{suffix}") if path.is_file()}
        for suffix in (".sql", ".yaml")
    }
    for name in sorted(found[".sql"] ^ found[".yaml"]):
        there, missing = (".sql", ".yaml") if name in found[".sql"] else (".yaml", ".sql")
        where = str(folder / f"{name}{there}")
        faults.append(Fault(where, "", "stands alone", f"{name}{missing} beside it"))
    names = sorted(found[".sql"] & found[".yaml"])
    for name in names:
        if not re.fullmatch(form, name):
            where = str(folder / f"{name}.sql")
            faults.append(Fault(where, "", f"its name is not {kind}", expected))
    return names


def read_sql(path: Path, faults: list[Fault]) -> str | None:
    """Return a file's statement without a closing semicolon, or None and its fault."""
    try:
        return read_limited(path, _SQL_LIMIT_BYTES).rstrip("; \t\r\n")
    except ValueError as error:
        faults.append(Fault(str(path), "", str(error), "a readable SQL file in UTF-8"))
        return None


def read_mapping(path: Path, form: type[M], holds: str) -> tuple[M | None, FaultList]:
    """Return a mapping file in its form and what is wrong with it; None where it has no form.

    Args:
        path: The `.yaml` file.
        form: The model it must fit.
        holds: What it holds at least, for messages.

    Raises:
        ConfigError: It cannot be read as YAML.
    """
    document = read_document(path, {}, holds=holds)
    # An empty section means its defaults, here as everywhere; without the key there is no section.
    if document.data.get("events", {}) is None:
        document.data["events"] = {}
    found = FaultList(document, form)
    try:
        return form.model_validate(document.data), found
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "missing":
                found.add(detail["loc"], "missing", EXPECTED_KEYS[str(detail["loc"][-1])])
            else:
                found.add_refusal(detail)
    return None, found
