"""What a user installs: the wheel, away from this checkout, with everything it needs in it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.watch import BUILT_IN

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by pip from this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    arguments = ["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("chatqueue_exporter-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it, and this one's libraries beside it.

    The libraries come by PYTHONPATH, which reads no .pth file and so not the editable install:
    the product itself can only come from the wheel.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    target = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-deps", "--no-index", "--target", target, str(wheel)),
        ],
        check=True,
        capture_output=True,
    )
    return folder


def run(installed: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python of that environment somewhere else than in the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return subprocess.run(
        [installed / "bin" / "python", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
        env={
            **kept,
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PYTHONWARNINGS": "error",
            **environment,
        },
    )


def test_the_wheel_holds_every_file_that_travels(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = "exporter/data"
    travelling = {
        f"{data}/{path.relative_to(ROOT)}"
        for folder in ("queries", "deploy", "dashboards", "alerts")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.name != ".gitkeep"
    }
    beside_code = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "exporter").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "data" not in path.parts
    }

    assert travelling | {f"{data}/config.example.yaml"} <= names
    assert beside_code <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "tools/"))]


def test_the_product_comes_from_the_wheel_and_finds_its_files(installed: Path) -> None:
    done = run(
        installed,
        "-c",
        "import exporter; from exporter.config.resources import find_resource as f; print(exporter."
        "__file__); names = 'queries', 'deploy', 'docs/runbooks.md', 'config.example.yaml';"
        " [print(f(n)) for n in names]; print(f('deploy') / 'postgresql' / 'reader.sql')",
    )

    assert done.stderr == ""
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(paths) == 6
    for path in paths:
        assert path.is_relative_to(installed)
        assert path.exists()


def test_a_configuration_is_checked_with_the_built_in_queries(installed: Path) -> None:
    (example,) = installed.rglob("config.example.yaml")
    arguments = ("-m", "exporter", "check-config", "--config.file", str(example))
    done = run(installed, *arguments, CHATQUEUE_DSN="postgresql://reader@db/chat")

    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == f"{example}: 1 database, {len(BUILT_IN)} queries, configuration is valid\n"
    )


def test_the_roles_are_printed_from_the_wheel(installed: Path) -> None:
    done = run(installed, "-m", "exporter", "grants")

    assert (done.returncode, done.stderr) == (0, "")
    assert 'CREATE ROLE "chatqueue_releaser"' in done.stdout


def test_the_alert_rules_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "-m", "exporter", "rules", "--output", str(tmp_path))

    assert (done.returncode, done.stderr) == (0, "")
    shipped = sorted((ROOT / "alerts").glob("*.rules.yml"))
    assert [Path(line).name for line in done.stdout.splitlines()] == [f.name for f in shipped]
    for file in shipped:
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


def test_every_module_can_be_imported(installed: Path) -> None:
    done = run(
        installed,
        "-c",
        "import importlib, pkgutil, exporter\n"
        "for m in pkgutil.walk_packages(exporter.__path__, 'exporter.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        "from exporter.config.schema import config_schema; config_schema()\n",
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_command_is_installed_under_its_name(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))

    assert "chatqueue = exporter.cli:main" in archive.read(entry_points).decode()
