"""Databases in files of their own: what is read, and where a fault is said to be."""

# ruff: noqa: E501, ISC004  # messages stand whole, as an operator reads them
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.config import Config, load_config
from exporter.daemon import Daemon
from exporter.errors import ConfigError


def load(folder: Path, main: str, files: Mapping[str, str]) -> Config:
    (folder / "databases.d").mkdir()
    for name, text in files.items():
        (folder / "databases.d" / name).write_text(text)
    (folder / "chatqueue.yaml").write_text(main)
    return load_config(folder / "chatqueue.yaml", {"PASSWORD": "hush"})


def test_each_file_is_a_database(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=three\n")
    config = load(
        tmp_path,
        "databases_dir: databases.d\ndatabases: {one: {dsn: host=one}}\n",
        {
            "two.yaml": "dsn: host=two password=${PASSWORD}\nlabels: {env: test}\n",
            "three.yaml": "dsn_file: dsn\n",
            ".hidden.yaml": "no: such key\n",
            "four.yaml.bak": "no: such key\n",
        },
    )

    found = {name: db.dsn.get_secret_value() for name, db in config.databases.items()}
    assert found == {"one": "host=one", "three": "host=three", "two": "host=two password=hush"}
    assert config.databases["two"].labels == {"env": "test"}


def test_a_folder_without_files_is_no_fault(tmp_path: Path) -> None:
    assert load(tmp_path, "databases_dir: databases.d\n", {}).databases == {}


FAULTS: dict[str, tuple[str, Mapping[str, str], str]] = {
    "unknown key": (
        "databases_dir: databases.d\n",
        {"two.yaml": "dsn: host=two\nlabel: {}\n"},
        "databases.d/two.yaml:2: label: unknown key, expected one of dsn, dsn_file, release_dsn, "
        "release_dsn_file, labels; did you mean labels?",
    ),
    "no dsn": (
        "databases_dir: databases.d\n",
        {"two.yaml": "labels: {}\n"},
        "databases.d/two.yaml:1: dsn: neither dsn nor dsn_file is given, expected exactly one of them",
    ),
    "empty": (
        "databases_dir: databases.d\n",
        {"two.yaml": ""},
        "databases.d/two.yaml: the file is empty, "
        "expected a YAML mapping with at least dsn or dsn_file",
    ),
    "no name": (
        "databases_dir: databases.d\n",
        {"two words.yaml": "dsn: host=two\n"},
        "databases.d/two words.yaml: 'two words' is not a name, "
        "expected 1 to 63 letters, digits, _, . or -",
    ),
    "twice": (
        "databases_dir: databases.d\ndatabases:\n  two: {dsn: host=one}\n",
        {"two.yaml": "dsn: host=two\n"},
        "chatqueue.yaml:3: databases.two: stands twice, expected only one of this and "
        "databases.d/two.yaml",
    ),
    "no folder": (
        "databases_dir: nowhere\n",
        {},
        "nowhere: cannot be read (No such file or directory), expected a folder",
    ),
    "empty name": (
        "databases_dir:\n",
        {},
        "chatqueue.yaml:1: databases: missing, expected at least one, or databases_dir",
    ),
    "no secret shown": (
        "databases_dir: databases.d\n",
        {"two.yaml": "dsn: [postgresql://u:hush@db/x]\n"},
        "databases.d/two.yaml:1: dsn: the value is not text, expected a connection string such as postgresql://… or host=… dbname=…",
    ),
}


@pytest.mark.parametrize(("main", "files", "message"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_is_named_with_its_file(
    tmp_path: Path, main: str, files: Mapping[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, main, files)

    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def test_the_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            "databases_dir: databases.d\npol: {}\n",
            {"a.yaml": "x: 1\n", "b.yaml": "y: 1\n"},
        )

    text = str(caught.value)
    assert all(part in text for part in ("chatqueue.yaml:2: pol", "a.yaml:1: x", "b.yaml:1: y"))


def test_a_reload_adds_and_removes_and_leaves_the_others_alone(tmp_path: Path) -> None:
    here = {f"{name}.yaml": f"dsn: host={tmp_path}/nowhere\n" for name in ("one", "two")}
    load(tmp_path, "databases_dir: databases.d\n", here)
    daemon = Daemon(tmp_path / "chatqueue.yaml")
    before = {worker.name: worker for worker in daemon.workers}
    (tmp_path / "databases.d" / "two.yaml").rename(tmp_path / "databases.d" / "three.yaml")

    daemon.reload()

    after = {worker.name: worker for worker in daemon.workers}
    assert daemon.stop(5)
    assert (set(before), set(after)) == ({"one", "two"}, {"one", "three"})
    assert after["one"] is before["one"]
