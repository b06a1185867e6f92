"""Every exception type of the product, split by who must act.

`ConfigError` and `CatalogueError` are the operator's: a file must be changed. `DatabaseError` and
its children are the database's: they are counted by reason and survived by the poller. Only `cli`
turns any of them into an exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class ChatqueueError(Exception):
    """Base of every error this product raises on purpose.

    Attributes:
        exit_code: What a command ends with that does not say otherwise.
    """

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a file the operator wrote.

    Attributes:
        where: `file:line`, or the file alone where no line can be named.
        key: Dotted path of the key, e.g. `poll.interval`; empty for the file as a whole.
        found: What is wrong, with the offending value (never a secret).
        expected: The form that would have been accepted.
    """

    where: str
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.where}: {key}{self.found}, expected {self.expected}"


class FaultsError(ChatqueueError):
    """One or more faults in the operator's files, reported together, one a line."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ConfigError(FaultsError):
    """The configuration (or web configuration) file cannot be used."""


class ConfigMissing(ConfigError):
    """The file is not there or cannot be read, so that a command cannot even begin."""

    exit_code = 2


class CatalogueError(FaultsError):
    """A query's `.sql` or `.yaml` file cannot be used."""


class Reason(StrEnum):
    """Why a query gave no figures; a label of `chatqueue_exporter_query_errors_total`."""

    TIMEOUT = "timeout"
    LOCKED = "locked"
    PERMISSION = "permission"
    MISSING = "missing"
    ROW_SECURITY = "row_security"
    MISMATCH = "mismatch"
    CONNECTION = "connection"
    OTHER = "other"


class DatabaseError(ChatqueueError):
    """The database did not give what was asked; `reason` is bounded, the message is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class DatabaseUnavailable(DatabaseError):
    """No connection, or the connection broke: nothing more can be asked until a new one stands."""

    def __init__(self, message: str, reason: Reason = Reason.CONNECTION) -> None:
        super().__init__(reason, message)


class QueryFailed(DatabaseError):
    """One query failed; the transaction and the other queries go on."""


class RowMismatch(QueryFailed):
    """A query's rows do not fit its mapping: a column is missing, ill-typed or ambiguous."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.MISMATCH, message)
