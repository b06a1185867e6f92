"""Takes each guard and lock of a release away in turn, and sees a named test fail.

    python -m tests.mutants.run            every mutant of release.yaml
    python -m tests.mutants.run pause rate those whose name contains a word

A mutant is a copy of the tree with some text replaced. It is dead when its tests run and fail;
an error before them, or none failing, is a survivor. Exit code 1 where one survives.
"""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("release.yaml")
WORKERS = 2
_LINKED = ("queries", "dashboards", "alerts", "deploy", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Change:
    """One text to replace; it must stand in its file exactly once."""

    file: str
    text: str
    by: str


@dataclass(frozen=True)
class Mutant:
    """What is taken away, and the test that must notice."""

    name: str
    changes: tuple[Change, ...]
    dies: str
    only: str


def read_mutants() -> tuple[Mutant, ...]:
    """Read release.yaml."""
    return tuple(
        Mutant(
            entry["name"],
            tuple(Change(c["file"], c["text"], c.get("by", "")) for c in entry["take"]),
            entry["dies"],
            entry.get("only", ""),
        )
        for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))
    )


def apply_change(root: Path, change: Change) -> None:
    """Replace the text in a copy of the tree.

    Raises:
        ValueError: It does not stand there exactly once.
    """
    file = root / change.file
    source = file.read_text(encoding="utf-8")
    if source.count(change.text) != 1:
        raise ValueError(
            f"{change.file} has {change.text!r} {source.count(change.text)} times, expected once"
        )
    file.write_text(source.replace(change.text, change.by), encoding="utf-8")


def run_mutant(mutant: Mutant) -> tuple[Mutant, bool, str, float]:
    """Return whether it died, and the end of what pytest said."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chatqueue-mutant-") as name:
        root = Path(name)
        shutil.copytree(
            ROOT / "exporter", root / "exporter", ignore=shutil.ignore_patterns("__pycache__")
        )
        for link in _LINKED:
            if (ROOT / link).exists():
                (root / link).symlink_to(ROOT / link)
        for change in mutant.changes:
            apply_change(root, change)
        words = " and ".join(filter(None, ("pg18", mutant.only)))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, mutant.dies, "-k", words if "postgres" in mutant.dies else mutant.only],
            cwd=root,
            env={**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-200:]]
        return mutant, done.returncode == 1, last[0], time.monotonic() - started


def main(words: Sequence[str]) -> int:
    """Run the mutants and print a line for each."""
    chosen = [m for m in read_mutants() if not words or any(word in m.name for word in words)]
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for mutant, is_dead, last, took_s in pool.map(run_mutant, chosen):
            survivors += not is_dead
            verdict = "dead    " if is_dead else "SURVIVED"
            print(f"{verdict} {took_s:5.1f}s  {mutant.name}  ({last})", flush=True)  # noqa: T201
    print(f"{len(chosen)} mutants, {survivors} survived")  # noqa: T201
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
