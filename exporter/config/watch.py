"""The section `watch`: when the deployment was, and how long it is watched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from exporter.config.section import Section
from exporter.config.values import Duration, FilePath, OrOff, between, fault

TIME_FORM = "a time with its zone such as 2026-11-23T08:00:00Z"


def parse_time(text: str) -> datetime:
    """Read a time with its zone; return it in UTC.

    Raises:
        ValueError: What is wrong with it, in a few words.
    """
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time") from None
    raise ValueError("has no zone")


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise fault("is not a time", TIME_FORM)
    try:
        return parse_time(value)
    except ValueError as error:
        raise fault(str(error), TIME_FORM) from None


Time = Annotated[datetime, BeforeValidator(_read_time)]


class Digests(Section):
    """When digests of the watch are sent to webhooks that take the event `digest`."""

    first_hour: OrOff[Annotated[Duration, between("1m", "1h")]] = Field(
        default=timedelta(minutes=15),
        description="Time between two digests in the first hour; off for none. At least 1m, at "
        "most 1h.",
    )
    afterwards: OrOff[Annotated[Duration, between("1m", "1d")]] = Field(
        default=timedelta(hours=1),
        description="Time between two digests after the first hour; off for none. At least 1m, at "
        "most 1d.",
    )
    state_file: FilePath | None = Field(
        default=None,
        description="File that keeps the values at the start of the watch and the last digest "
        "across restarts, in a folder the daemon may write. Relative to this file. The live page's "
        "history is kept beside it, with `.history` added to the name. Without it, changes are "
        "counted and the history begins from the restart on.",
    )


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """When a watch is that was started by command; with zones.

    Attributes:
        started_at: Its beginning.
        ends_at: Its end, or when it was stopped.
        rollback_until: The rollback deadline.
    """

    started_at: datetime
    ends_at: datetime
    rollback_until: datetime


class Watch(Section):
    """The watch after a deployment."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    started_at: Time | None = Field(
        default=None,
        description="When the watch began, with its zone: `2026-11-23T08:00:00Z`. A watch that "
        "`chatqueue watch start` begins comes before it. Without either there is no watch, only "
        "the usual metrics.",
    )
    for_: Annotated[Duration, between("1h", "90d")] = Field(
        default=timedelta(hours=24), alias="for", description="How long it lasts. At least 1h."
    )
    rollback_within: Annotated[Duration, between("1m", "90d")] = Field(
        default=timedelta(hours=4),
        description="How long after the start the deployment can still be rolled back; until then "
        "the report recommends whether to. At least 1m.",
    )
    digests: Digests = Field(
        default=Digests(),
        description="When digests of the watch are sent, and where its state is kept.",
    )

    def at_times(self, times: WatchTimes) -> Watch:
        """Return this watch as it was started by command."""
        changed = {
            "started_at": times.started_at,
            "for_": times.ends_at - times.started_at,
            "rollback_within": times.rollback_until - times.started_at,
        }
        return self.model_copy(update=changed)

    @property
    def ends_at(self) -> datetime | None:
        """When it is over; None where there is no watch."""
        return None if self.started_at is None else self.started_at + self.for_

    @property
    def rollback_until(self) -> datetime | None:
        """When it is too late to roll back; None where there is no watch."""
        return None if self.started_at is None else self.started_at + self.rollback_within
