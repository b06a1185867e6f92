"""The demo's Prometheus and Alertmanager: found or named as missing, and configured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from exporter.demo import stack
from exporter.demo.stack import Programs, StackNotInstalled, StackNotStarted


def make_program(folder: Path, name: str, script: str = "exit 0") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it."""
    monkeypatch.setattr(stack.shutil, "which", lambda name, path: _find(tmp_path, name))
    return tmp_path


def _find(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


def test_debians_name_and_the_plain_one_are_found(path: Path) -> None:
    prometheus = make_program(path, "prometheus")
    plain = make_program(path, "alertmanager")
    assert stack.find_programs() == Programs(prometheus, plain)

    debians = make_program(path, "prometheus-alertmanager")
    assert stack.find_programs() == Programs(prometheus, debians)


def test_what_is_missing_is_named(path: Path) -> None:
    with pytest.raises(StackNotInstalled) as both:
        stack.find_programs()
    make_program(path, "prometheus")
    with pytest.raises(StackNotInstalled) as one:
        stack.find_programs()

    assert str(both.value) == (
        "demo --full needs prometheus (Debian's package prometheus) and alertmanager (Debian's"
        " package prometheus-alertmanager) on PATH"
    )
    assert str(one.value) == (
        "demo --full needs alertmanager (Debian's package prometheus-alertmanager) on PATH"
    )


def test_a_program_that_ends_is_an_error_with_its_log(tmp_path: Path) -> None:
    broken = make_program(tmp_path, "broken", "echo no such luck >&2; exit 3")
    with (
        pytest.raises(StackNotStarted, match="prometheus does not start:\nno such luck"),
        stack.run_stack(Programs(broken, broken), tmp_path, ["127.0.0.1:1"]),
    ):
        raise AssertionError


def test_one_that_never_answers_and_ignores_its_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "_READY_S", 0.2)
    monkeypatch.setattr(stack, "_END_S", 0.2)
    deaf = make_program(
        tmp_path,
        "deaf",
        f"exec {sys.executable} -c 'import signal, time; signal.signal(15, signal.SIG_IGN);"
        " time.sleep(60)'",
    )
    with (
        pytest.raises(StackNotStarted),
        stack.run_stack(Programs(deaf, deaf), tmp_path, ["127.0.0.1:1"]),
    ):
        raise AssertionError


def test_rules_and_routes_are_the_shipped_ones(tmp_path: Path) -> None:
    prometheus, alertmanager = stack.write_stack_config(tmp_path, ["a:1"], 9, None, "1s")
    shipped = stack.find_resource("alerts")
    example = yaml.safe_load((shipped / "alertmanager.example.yml").read_text())
    ours = yaml.safe_load(alertmanager.read_text())

    for file in shipped.glob("*.rules.yml"):
        assert (tmp_path / "rules" / file.name).read_text() == file.read_text()
    assert ours["inhibit_rules"] == example["inhibit_rules"]
    assert ours["route"]["routes"] == example["route"]["routes"]
    assert ours["receivers"] == [{"name": "page"}, {"name": "ticket"}, {"name": "watchdog"}]
    assert yaml.safe_load(prometheus.read_text())["global"]["scrape_interval"] == "1s"
