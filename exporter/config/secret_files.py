"""Secrets that lie in files of their own: `dsn_file` for `dsn`, and its like."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.config.document import UNUSABLE, Document, KeyPath, read_limited
from exporter.config.faults import FaultList
from exporter.config.values import Surroundings

_LIMIT_BYTES = 64 * 1024
Secrets = tuple[tuple[KeyPath, tuple[str, ...]], ...]
"""Sections (* for any name), and the keys in them that `<key>_file` may give."""

_SECRETS: Secrets = (
    (("databases", "*"), ("dsn", "release_dsn")),
    (("notify", "webhooks", "*"), ("url",)),
    (("logs", "receivers", "*"), ("token", "secret")),
    (("prometheus",), ("password", "bearer_token")),
)


def read_secret_files(
    document: Document,
    surroundings: Surroundings,
    faults: FaultList,
    secrets: Secrets = _SECRETS,
) -> None:
    """Put the content of every secret's file where the secret itself would stand.

    Args:
        document: Changed in place.
        surroundings: Where the files lie.
        faults: Where a file cannot be read, or stands beside the secret itself.
        secrets: Where the document may have some.
    """
    for pattern, keys in secrets:
        for path, section in _sections(document.data, pattern, ()):
            for key in keys:
                if f"{key}_file" in section:
                    _read(section, key, path, surroundings, faults)


def _sections(
    data: object, pattern: KeyPath, path: KeyPath
) -> Iterator[tuple[KeyPath, dict[str, object]]]:
    """The sections that a pattern means; what has another shape is for the model to refuse."""
    if not isinstance(data, dict):
        return
    if not pattern:
        yield path, data
        return
    for key in data if pattern[0] == "*" else data.keys() & {pattern[0]}:
        yield from _sections(data[key], pattern[1:], (*path, key))


def _read(
    section: dict[str, object],
    key: str,
    path: KeyPath,
    surroundings: Surroundings,
    faults: FaultList,
) -> None:
    file_path = (*path, f"{key}_file")
    if key in section:
        faults.add(file_path, f"stands beside {key}", "only one of the two", at_key=True)
        return
    section[key] = UNUSABLE
    name = section[f"{key}_file"]
    if name is not None and (not isinstance(name, str) or not name):
        return  # the model says why
    try:
        if name is None:
            raise ValueError("no file is named")
        section[key] = read_limited(surroundings.locate_secret(name), _LIMIT_BYTES).strip()
        faults.redirect((*path, key), file_path)
    except ValueError as error:
        expected = f"a file holding {faults.form((*path, key))}"
        faults.add(file_path, f"{faults.shown(file_path)}: {error}", expected)
