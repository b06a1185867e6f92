"""Backups of pg_dump in all its formats, and how they are restored into an empty database."""

from __future__ import annotations

import gzip
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from exporter.database.programs import split_password
from exporter.demo.machine import end_guarded, start_guarded
from exporter.errors import ChatqueueError
from exporter.rehearsal.programs import environment, read_log

Format = Literal["sql", "archive"]
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"\x28\xb5\x2f\xfd": "zstd: unpack it first",
    b"\xfd7zXZ": "xz: unpack it first",
    b"BZh": "bzip2: unpack it first",
    b"Salted__": "encrypted by openssl: decrypt it first",
    b"age-encryption.org": "encrypted by age: decrypt it first",
    b"-----BEGIN PGP": "encrypted by PGP: decrypt it first",
    b"PK\x03\x04": "a zip archive: unpack it first",
}
_ROLE = r'("(?:[^"]|"")+"|[a-z_][\w$]*)'
_ROLE_LIST = re.compile(
    rf"^(?:ALTER .* OWNER TO|(?:GRANT|ALTER DEFAULT PRIVILEGES) .* TO|REVOKE .* FROM"
    rf"|ALTER DEFAULT PRIVILEGES FOR ROLE|CREATE POLICY .*? TO) ({_ROLE}(?:, ?{_ROLE})*)"
)
_FOR_ROLE = re.compile(rf"^ALTER DEFAULT PRIVILEGES FOR ROLE {_ROLE}")
# A hosted platform's schema is there already, and a later pg_dump sets what this server lacks.
_HARMLESS = re.compile(
    r'(role|schema) ".*" already exists|unrecognized configuration parameter "\w+_timeout"'
)
_NO_ROLES = {"PUBLIC", "public", "postgres", "CURRENT_USER", "SESSION_USER"}


class BackupUnreadable(ChatqueueError):
    """The backup is none that can be restored here; the message says why."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a restore.

    Attributes:
        errors: The server's words for what could not be restored, each once.
        roles: Those that the backup speaks of, made without a right to log in.
    """

    errors: tuple[str, ...]
    roles: tuple[str, ...]


def detect_format(backup: Path) -> Format:
    """Return how a backup is restored: by psql or by pg_restore.

    Raises:
        BackupUnreadable: It is empty, encrypted or of another kind.
    """
    if backup.is_dir():
        if (backup / "toc.dat").exists():
            return "archive"
        raise BackupUnreadable(f"{backup}: a directory without toc.dat is no backup of pg_dump")
    try:
        with closing(open_backup(backup)) as file:
            head = file.read(512)
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BackupUnreadable(f"{backup}: {why}") from error
    if not head.strip():
        raise BackupUnreadable(f"{backup}: is empty")
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise BackupUnreadable(f"{backup}: is {what}")
    is_tar = head[257:262] == b"ustar" and head.startswith(b"toc.dat")
    return "archive" if head.startswith(b"PGDMP") or is_tar else "sql"


def restore(backup: Path, dsn: str, bin_dir: Path, folder: Path) -> Restored:
    """Restore a backup into an empty database, as far as it goes.

    A backup of a hosted platform names roles and extensions that are not here. Roles are made; what
    fails for want of an extension is reported, and everything else is restored.

    Args:
        backup: The file, or the directory of a dump in that format.
        dsn: Of a superuser.
        bin_dir: With `psql` and `pg_restore`.
        folder: For logs and an unpacked archive; removed by the caller.

    Raises:
        BackupUnreadable: It cannot be read.
    """
    if detect_format(backup) == "archive":
        return _restore_archive(unpack(backup, folder), dsn, bin_dir, folder)
    with closing(open_backup(backup)) as file:
        roles = find_roles(line.decode(errors="replace") for line in file)
    log = folder / "restore.log"
    try:
        with closing(open_backup(backup)) as file:
            _feed(_create_roles(roles), file, dsn, bin_dir, log)
    except (OSError, EOFError) as error:
        raise BackupUnreadable(f"{backup}: {error}") from error
    return Restored(find_errors(read_log(log)), roles)


def find_roles(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the roles that a dump's statements speak of, as they are written there."""
    found: dict[str, None] = {}
    for line in lines:
        if not line.startswith(("ALTER", "GRANT", "REVOKE", "CREATE POLICY")):
            continue
        for match in filter(None, (_ROLE_LIST.match(line), _FOR_ROLE.match(line))):
            found |= dict.fromkeys(re.findall(_ROLE, match[1]))
    return tuple(sorted(found.keys() - _NO_ROLES))


def find_errors(lines: Iterable[str]) -> tuple[str, ...]:
    """Return each error of psql's or pg_restore's output once, in their order."""
    errors = (line.partition("ERROR:")[2].strip() for line in lines if "ERROR:" in line)
    return tuple(dict.fromkeys(error for error in errors if not _HARMLESS.fullmatch(error)))


def _create_roles(roles: Iterable[str]) -> str:
    """Statements that make roles, those of the hosted platform that pass row security so too."""
    return "".join(
        f"CREATE ROLE {role}{' BYPASSRLS' if role == 'service_role' else ''};\n" for role in roles
    )


def _restore_archive(archive: Path, dsn: str, bin_dir: Path, folder: Path) -> Restored:
    listing = subprocess.run(
        [bin_dir / "pg_restore", "--schema-only", "--file=-", archive],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if listing.returncode:
        raise BackupUnreadable(f"{archive}: {' '.join(listing.stderr.split())}")
    roles = find_roles(listing.stdout.splitlines())
    _feed(_create_roles(roles), None, dsn, bin_dir, folder / "roles.log")
    log = folder / "restore.log"
    shown, secret = split_password(dsn)
    command = [str(bin_dir / "pg_restore"), f"--dbname={shown}", str(archive.resolve())]
    with log.open("wb") as output:
        process = start_guarded(command, output, "", cwd=folder, env=environment(secret))
    try:
        process.wait()
    finally:
        end_guarded(process, signal.SIGTERM, 5)
    return Restored(find_errors(read_log(log)), roles)


def _feed(first: str, file: BinaryIO | None, dsn: str, bin_dir: Path, log: Path) -> None:
    """Send statements to psql, which ends with its input even if this process is killed."""
    shown, secret = split_password(dsn)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [bin_dir / "psql", "-X", "-q", f"--dbname={shown}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=dict(environment(secret)),
            start_new_session=True,
        )
    assert process.stdin is not None  # noqa: S101
    try:
        process.stdin.write(first.encode())
        for chunk in _chunks(file):
            process.stdin.write(chunk)
    except BrokenPipeError:
        pass  # its log says why
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()


def _chunks(file: BinaryIO | None) -> Iterator[bytes]:
    while file is not None and (chunk := file.read(_CHUNK)):
        yield chunk


def unpack(backup: Path, folder: Path) -> Path:
    """Return the archive itself, unpacked where it was packed once more."""
    if backup.is_dir():
        return backup
    with backup.open("rb") as file:
        if file.read(2) != _GZIP:
            return backup
    unpacked = folder / "backup"
    with closing(open_backup(backup)) as packed, unpacked.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return unpacked


def open_backup(backup: Path) -> BinaryIO:
    """Return the bytes of a backup, unpacked."""
    with backup.open("rb") as file:
        is_packed = file.read(2) == _GZIP
    return cast("BinaryIO", gzip.open(backup, "rb")) if is_packed else backup.open("rb")
