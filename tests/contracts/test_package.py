"""What is put on the index: the metadata, the same bytes each time, and what a packager expects."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.servers import require_tool

ROOT = Path(__file__).parents[2]
SHELLS = {"bash": "bash -n", "zsh": "zsh -n", "fish": "fish --no-execute"}


def build(source: Path, folder: Path, *kinds: str) -> dict[str, Path]:
    """Build from a source tree, without a network; file ending to file."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", folder, source],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1795800000"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"), "--sdist", "--wheel")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_metadata_and_the_readme_are_fit_for_the_index(built: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *built.values()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_builds_give_the_same_bytes(built: dict[str, Path], tmp_path: Path) -> None:
    again = build(ROOT, tmp_path, "--sdist", "--wheel")
    assert {kind: digest(path) for kind, path in again.items()} == {
        kind: digest(path) for kind, path in built.items()
    }


def test_the_source_archive_builds_the_same_wheel(built: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(built[".gz"]) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    wheel = build(source, tmp_path / "dist", "--wheel")[".whl"]
    assert digest(wheel) == digest(built[".whl"])


def test_the_wheel_brings_manual_pages_completions_and_types(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built[".whl"]).namelist()
    data = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert {
        "share/man/man1/chatqueue.1",
        "share/man/man1/chatqueue-run.1",
        "share/bash-completion/completions/chatqueue",
        "share/fish/vendor_completions.d/chatqueue.fish",
        "share/zsh/site-functions/_chatqueue",
    } <= data
    assert "exporter/py.typed" in names


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_is_sound(shell: str) -> None:
    program, *arguments = SHELLS[shell].split()
    found = require_tool(program, program)
    (script,) = (ROOT / "deploy" / "completions" / shell).iterdir()
    subprocess.run([found, *arguments, script], check=True)
