"""A PostgreSQL whose time is what we say, by libfaketime: a day passes as fast as it is lived."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.errors import ChatqueueError

_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1")
# The server's timeouts stay real; it alone is deceived.
_SCRIPT = """#!/bin/sh
export LD_PRELOAD={library} FAKETIME=% FAKETIME_FOLLOW_FILE={file}
export FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_NO_CACHE=1 NO_FAKE_STAT=1
exec {program} "$@"
"""


class NoFaketimeError(ChatqueueError):
    """libfaketime is not installed."""


class Clock:
    """The time of one server, in whole seconds.

    Args:
        folder: Where its file and the server's program are kept; readable by everybody.
        bin_dir: The real `bin` directory of the server.

    Attributes:
        bin_dir: Start the server from here.
        now_s: Unix time on it.
    """

    def __init__(self, folder: Path, bin_dir: Path) -> None:
        library = next(
            (path for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])), None
        )
        if library is None:
            raise NoFaketimeError("libfaketime is not installed: apt-get install libfaketime")
        folder.chmod(0o755)
        self._file = folder / "clock"
        self._file.touch()
        self.bin_dir = folder / "bin"
        self.bin_dir.mkdir()
        postgres = self.bin_dir / "postgres"
        postgres.write_text(
            _SCRIPT.format(library=library, file=self._file, program=bin_dir / "postgres")
        )
        initdb = self.bin_dir / "initdb"
        initdb.write_text(f'#!/bin/sh\nexec {bin_dir / "initdb"} "$@"\n')
        for script in (postgres, initdb):
            script.chmod(0o755)
        self.now_s = 0

    def set(self, now_s: float) -> None:
        """Let it be that time."""
        self.now_s = int(now_s)
        os.utime(self._file, (self.now_s, self.now_s))
