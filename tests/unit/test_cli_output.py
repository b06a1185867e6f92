"""Commands on devices that cannot show everything, are full, or are closed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from exporter.cli import main
from exporter.cli.output import build_console, one_line, printing
from exporter.ops import rules

PROGRAM = (sys.executable, "-c", "from exporter.cli import main; main()")
COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "help of a command": ("status", "--help"),
    "version": ("--version",),
    "check": ("check-config", "--config.file", "{config}"),
    "schema": ("check-config", "--print-schema"),
    "status": ("status", "--config.file", "{config}"),
    "status as JSON": ("status", "--json", "--config.file", "{config}"),
    "verify": ("verify", "--config.file", "{config}"),
    "grants": ("grants",),
    "rules": ("rules",),
    "install": ("install", "--config.file", "{config}"),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("output") / "chatqueue.yaml"
    file.write_text("databases: {main: {dsn: host=127.0.0.1 port=1 dbname=→✓}}\n")
    return file


def run(command: str, config: Path, output: int, **environment: str) -> tuple[int, str]:
    """Run a command in a process of its own; its exit code and what it said on standard error."""
    arguments = [part.format(config=config) for part in COMMANDS[command]]
    done = subprocess.run(
        [*PROGRAM, *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.decode(errors="replace")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_said_and_is_exit_code_2(command: str, config: Path) -> None:
    with Path("/dev/full").open("w") as full:
        found = run(command, config, full.fileno())

    assert found == (2, "chatqueue: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_is_gone_ends_a_command_silently(command: str, config: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run(command, config, writer) == (141, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("encoding", ["latin-1", "cp437", "cp1251"])
def test_a_device_that_lacks_a_sign_gets_a_plain_one(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(device, encoding, write_through=True))
    monkeypatch.setattr(rules, "read_rules", lambda *_: {"a": "✓ ✗ → █ \udcff é 猫\n"})
    main_exit("rules")

    shown = device.getvalue().decode(encoding)
    assert shown.startswith("groups:\n+ x -> ")
    assert shown.endswith(" ?\n")


def test_a_table_on_a_device_of_ascii_gets_plain_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    device = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(device, "ascii", write_through=True))
    with printing():
        build_console().print("✓ ✗ → 猫")

    assert device.getvalue() == b"+ x -> ?\n"


def main_exit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_output_that_is_closed_is_no_fault(config: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" check-config --config.file {config} >&-', "sh", *PROGRAM],
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_fault_of_our_own_is_one_line_without_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> str:
        raise TypeError("broken\npostgresql://u:s3cr3t@h/db")

    monkeypatch.setattr(rules, "read_rules", fail)
    monkeypatch.delenv("CHATQUEUE_TRACEBACK", raising=False)

    assert main_exit("rules") == 2
    said = capsys.readouterr().err
    assert "rules.py" in said
    assert "TypeError: broken postgresql://u:***@h/db" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("columns", ["10", "80", "200"])
def test_a_row_is_one_line_however_narrow_the_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table("chat", "operator", "why", box=None, pad_edge=False)
    chat, name = "00000000-0000-0000-0000-000000000001", "a :cat: [bold]name[/] " * 20
    table.add_row(chat, one_line(name), one_line("one\ntwo\x1b[31m\tthree"))
    build_console().print(table)

    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["chat", "operator", "why"]
    assert row.split()[0] == chat
    assert name.strip() in row
    assert row.rstrip().endswith(r"one\ntwo\x1b[31m\tthree")
