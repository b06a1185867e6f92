"""Where the files that travel with the product lie: in a checkout and in an installed wheel.

`queries/`, `dashboards/`, `alerts/`, `deploy/`, `docs/runbooks.md` and `config.example.yaml` stand
where people look for them in the repository, and inside the wheel under `exporter/data`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_DATA = _PACKAGE / "data"


def find_resource(name: str) -> Path:
    """Return the path of a shipped file or folder.

    Args:
        name: One of `queries`, `dashboards`, `alerts`, `deploy`, `docs/runbooks.md`,
            `config.example.yaml`.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    for candidate in (_DATA / name, _PACKAGE.parent / name):
        if candidate.exists():
            return candidate
    raise FileNotFoundError(f"{name} is missing from this installation of chatqueue-exporter")
