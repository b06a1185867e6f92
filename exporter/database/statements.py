"""SQL that travels inside a package, by the names of its files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType


def load_statements(package: str, *folders: str) -> Mapping[str, str]:
    """Read every `<name>.sql` of a folder inside a package.

    Args:
        package: `__package__` of the caller.
        folders: Path of the folder, from the package on.

    Returns:
        Name to text.
    """
    folder = files(package).joinpath(*folders)
    return MappingProxyType(
        {
            entry.name.removesuffix(".sql"): entry.read_text("utf-8")
            for entry in folder.iterdir()
            if entry.name.endswith(".sql")
        }
    )
