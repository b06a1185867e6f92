"""Programs under measurement: start, CPU time, memory, and a sure end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_TAIL_LINES = 8


class ProgramError(Exception):
    """A program under measurement did not start or ended; the message ends with its output."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one process in bytes; None where the kernel does not tell.

    Attributes:
        rss: All resident pages.
        pss: The same, each shared page divided by its users.
        uss: Pages of its own.
    """

    rss: int
    pss: int | None
    uss: int | None


class Program:
    """One process of ours, its output in a file.

    Args:
        command: Program and arguments.
        log: File for all its output.
        environment: Added to ours.

    Raises:
        ProgramError: There is no such program.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    # Ctrl-C is for us; we end what we started, in order.
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509 - the bench has one thread
                )
            except OSError as error:
                raise ProgramError(f"{command[0]}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def check_running(self) -> None:
        """Do nothing while it runs.

        Raises:
            ProgramError: It has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise ProgramError(f"ended with status {status}: {self.output_tail()}")

    def output_tail(self) -> str:
        """Return the last lines it wrote."""
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            return "\n".join(lines[-_TAIL_LINES:])
        return ""

    def cpu_s(self) -> float:
        """CPU seconds used so far, user and system, all threads."""
        return sum(_read_times(self.pid)[:2])

    def threads(self) -> int:
        """Return how many threads it has now."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def memory(self) -> Memory:
        """Resident memory now."""
        fields: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, _, value = line.partition(":")
                fields[name] = int(value.split()[0]) * 1024
        if "Pss" in fields:
            own = fields["Private_Clean"] + fields["Private_Dirty"]
            return Memory(fields["Rss"], fields["Pss"], own)
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return Memory(pages * os.sysconf("SC_PAGE_SIZE"), None, None)

    def stop(self) -> None:
        """End it: SIGTERM, after 5 s SIGKILL to what is left of its session."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a server and its children, also of those that have ended."""
    spent_s = sum(_read_times(pid))
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(file.read_text().rpartition(")")[2].split()[1]) == pid:
                spent_s += sum(_read_times(int(file.parent.name)))
    return spent_s


def _read_times(pid: int) -> tuple[float, float, float, float]:
    """CPU seconds of a process: user, system, and both of its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user_s, system_s, *ended_s = (int(ticks) / _TICKS_A_SECOND for ticks in fields[11:15])
    return user_s, system_s, ended_s[0], ended_s[1]


def _die_with_parent() -> None:
    """Runs in the child: end when the bench is killed and cannot clean up."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
