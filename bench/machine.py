"""What the figures were measured on: the machine's shape and the versions, no names, no paths."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """The shape of this machine.

    Attributes:
        date: Of the run, UTC.
        cores: Logical ones this process may use.
        cpu: Model name, or the architecture.
        memory_gib: Total.
        kernel: Release of Linux.
        python: Version that runs the exporter.
        load_before: One-minute load average before the run; near 0 on a quiet machine.
    """

    date: str
    cores: int
    cpu: str
    memory_gib: float
    kernel: str
    python: str
    load_before: float


def describe_machine() -> Machine:
    """Return the shape of this machine, now."""
    return Machine(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu_model(),
        memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
        kernel=platform.release(),
        python=platform.python_version(),
        load_before=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
