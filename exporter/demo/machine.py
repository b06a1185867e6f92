"""What the throw-away server needs of the machine: an account, a directory, a port, a guard.

Knows Linux, and of PostgreSQL only its pid file and that SIGINT stops it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypedDict, Unpack

# Below the range from which Linux takes ports of outgoing connections, so that none of those
# grabs the port while the server is down.
_PORTS = range(15_000, 32_000)

# The server's stdin is a pipe whose other end only this Python process holds. A watcher waits on
# it: a line means that the server was stopped in order; end of file means that the parent died,
# even by kill -9, so the watcher stops the server and removes its files. A pipe and not
# PR_SET_PDEATHSIG, because that fires when the *thread* that started the server ends. The watcher
# is forked twice so that the postmaster has no child it does not know of. `$$` is the postmaster,
# since `exec` keeps the process id.
_GUARDED_EXEC = """
( { read -r word <&3 || {
      kill -INT $$
      [ -n "$0" ] || exit
      n=0
      while [ -e "$0/data/postmaster.pid" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
      rm -rf -- "$0"
    }
  } >/dev/null 2>&1 & ) 3<&0
exec "$@" </dev/null
"""


class ProcessOptions(TypedDict, total=False):
    """Options of `subprocess.run` that make a program run as the server's account."""

    cwd: Path
    env: Mapping[str, str]
    user: int
    group: int
    extra_groups: Sequence[int]


def unprivileged_account() -> pwd.struct_passwd | None:
    """Return the account to run the server as; None where this process is unprivileged."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def process_options(account: pwd.struct_passwd | None, directory: Path) -> ProcessOptions:
    """Return how to run a program as `account` (None: unchanged) in a plain environment."""
    # TZ spares initdb half a second of comparing all time zones with the machine's.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    options = ProcessOptions(cwd=directory, env=environment)
    if account:
        options["user"] = account.pw_uid
        options["group"] = account.pw_gid
        options["extra_groups"] = ()
    return options


def start_guarded(
    command: Sequence[str], log: BinaryIO, doomed: str, **options: Unpack[ProcessOptions]
) -> subprocess.Popen[bytes]:
    """Start a program that ends with this process, even if that is killed.

    Args:
        command: What to run.
        log: Takes its output.
        doomed: Directory to remove after such an end; empty for none.
        options: As `process_options` returns them.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARDED_EXEC, doomed, *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        bufsize=0,
        # Ctrl-C goes to the foreground process group; the program must outlive it until its owner
        # ends it in order.
        start_new_session=True,
        **options,
    )


def end_guarded(process: subprocess.Popen[bytes], sig: signal.Signals, timeout_s: float) -> None:
    """End such a program by a signal, by SIGKILL after the timeout, and dismiss its guard."""
    if process.poll() is None:
        process.send_signal(sig)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.write(b"ended\n")
        process.stdin.close()


def make_directory(account: pwd.struct_passwd | None, parent: Path | None) -> Path:
    """Create the server's directory, as root in a place that its account can reach."""
    parent = parent or Path(tempfile.gettempdir())
    if account is None:
        return Path(tempfile.mkdtemp(prefix="chatqueue-", dir=parent))
    if not all(path.stat().st_mode & 0o001 for path in (parent, *parent.parents)):
        parent = Path("/tmp")  # noqa: S108
    directory = Path(tempfile.mkdtemp(prefix="chatqueue-", dir=parent))
    os.chown(directory, account.pw_uid, account.pw_gid)
    return directory


def find_free_port() -> int:
    """Return a port of 127.0.0.1 without a listener."""
    # Not from a seeded generator: two servers that start together must not try the same ports.
    for port in random.SystemRandom().sample(_PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free TCP port between {_PORTS.start} and {_PORTS.stop}")


def remove_shared_memory(data_dir: Path) -> None:
    """Remove the System V segment that a killed server left; its pid file names it."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        _key, segment = (data_dir / "postmaster.pid").read_text().splitlines()[6].split()
        ipc_rmid = 0
        ctypes.CDLL(None).shmctl(int(segment), ipc_rmid, None)
