"""The command `chatqueue` as a process of its own: started, watched, asked and ended."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

COMMAND = (sys.executable, "-m", "exporter")
DEADLINE_S = 20.0
# What no output of ours may hold: what Python itself says when something was overlooked.
_UNTIDY = re.compile(r"Traceback|Warning:|Exception ignored|never awaited")


class Command:
    """A running `chatqueue …`, its output kept in files so that no pipe can fill up.

    Attributes:
        process: The process.
        address: `host:port` that it serves on; set by `run_daemon`.
    """

    def __init__(self, *arguments: str, folder: Path, **options: Any) -> None:
        self._files = [folder / "stdout", folder / "stderr"]
        environment = options.pop("env", {})
        with self._files[0].open("wb") as stdout, self._files[1].open("wb") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                **{"stdout": stdout, "stderr": stderr, "stdin": subprocess.DEVNULL, **options},
                env={**tidy_environment(), **environment},
            )
        self.address = ""

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._files[0].read_text()

    @property
    def stderr(self) -> str:
        """What it has logged so far."""
        return self._files[1].read_text()

    def wait_until(self, condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> float:
        """Wait for something to come true; return the seconds it took."""
        started = time.monotonic()
        while not condition():
            state = f"exit code {self.process.poll()}\n{self.stdout}\n{self.stderr}"
            assert time.monotonic() - started < deadline_s, state
            time.sleep(0.01)
        return time.monotonic() - started

    def wait_for_log(self, text: str, deadline_s: float = DEADLINE_S) -> float:
        """Wait for a text on standard error."""
        return self.wait_until(lambda: self._has(text), deadline_s)

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal and wait for the end; return the seconds it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)
        return time.monotonic() - started

    def get(self, path: str, **options: Any) -> requests.Response:
        """Ask for a path."""
        return requests.get(f"http://{self.address}{path}", timeout=10, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """Post to a path."""
        return requests.post(f"http://{self.address}{path}", timeout=10, **options)

    def page(self) -> str:
        """The page of figures."""
        return self.get("/metrics").text

    def _has(self, text: str) -> bool:
        assert self.process.poll() is None or text in self.stderr, self.stdout + self.stderr
        return text in self.stderr


def tidy_environment() -> dict[str, str]:
    """This process's environment, with Python's warnings made errors."""
    return {**os.environ, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}


def assert_tidy(text: str) -> None:
    """Fail where Python itself had to say something."""
    assert not _UNTIDY.search(text), text


@contextlib.contextmanager
def start(*arguments: str, **options: Any) -> Iterator[Command]:
    """Run the command for the test; it is killed where it has not ended by itself."""
    with tempfile.TemporaryDirectory(prefix="command-") as folder:
        command = Command(*arguments, folder=Path(folder), **options)
        try:
            yield command
            assert_tidy(command.stdout + command.stderr)
        finally:
            if command.process.poll() is None:
                command.process.kill()
                command.process.wait()


@contextlib.contextmanager
def run_daemon(config_file: Path, *arguments: str, **options: Any) -> Iterator[Command]:
    """Run `chatqueue run` until it serves, for the test, and end it by SIGTERM."""
    fixed = ("--config.file", str(config_file), "--web.listen-address", "127.0.0.1:0")
    with start("run", *fixed, *arguments, **options) as command:
        command.wait_for_log("serving")
        command.wait_until(lambda: find_address(command.stderr))
        command.address = find_address(command.stderr)
        yield command
        if command.process.poll() is None:
            command.end()
            assert command.process.returncode == 0, command.stderr


def find_address(logged: str) -> str:
    """The address in the line that says `serving`, in either log format; empty without one."""
    found = re.search(r'addresses"?[=:] ?"?([\d.]+:\d+)', logged)
    return found[1] if found else ""


def run_command(*arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the command to its end; return its exit code, output and error output."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**tidy_environment(), **(env or {})},
        timeout=60,
        check=False,
    )
    assert_tidy(done.stdout + done.stderr)
    return done.returncode, done.stdout, done.stderr
