"""The section `release`: when a stuck chat may be handed back, and how often at most."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from exporter.config.section import Section
from exporter.config.values import (
    Duration,
    Or,
    Share,
    Switch,
    WholeNumber,
    between,
    from_to,
)

MODES = ("off", "observe", "enforce")
# YAML 1.1 reads a bare off as false, YAML 1.2 as text; both mean it.
Mode = Annotated[
    Literal["off", "observe", "enforce"],
    BeforeValidator(lambda value: "off" if value is False else value),
    WithJsonSchema({"title": "off, observe or enforce", "enum": [*MODES, False]}),
]
UNTIL_RESUMED = "until-resumed"
"""`breaker.hold`: a person resets it, with `chatqueue resume`."""

Hold = Annotated[Annotated[Duration, between("0s", "7d")] | None, Or(UNTIL_RESUMED)]
Count = Annotated[WholeNumber, from_to(1, 1000)]


class Confirm(Section):
    """How often a chat must have looked stuck, without any change, before it is released."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    polls: Count = Field(
        default=3, description="Successive polls that saw the same assignment and the same signs."
    )
    for_: Annotated[Duration, between("0s", "1d")] = Field(
        default=timedelta(minutes=2),
        alias="for",
        description="Minimum time from the first of those polls to the last.",
    )


class Rate(Section):
    """How many chats all daemons on a database together may release per hour."""

    per_hour: Count = Field(default=20, description="Releases per hour in the long run.")
    burst: Count = Field(default=5, description="Releases at once after a time without any.")


class PerChat(Section):
    """How often one chat is released before it is left to a person."""

    releases: Count = Field(default=2, description="Releases of one chat within the window.")
    window: Annotated[Duration, between("1m", "90d")] = Field(
        default=timedelta(hours=24), description="The time within which they are counted."
    )


class Breaker(Section):
    """When so many chats look stuck that something else is broken: nothing is released then."""

    share: Share = Field(
        default=0.2,
        description="Trips when more than this share of the assigned chats looks stuck; above 0 "
        "and below 1.",
    )
    at_least: Count = Field(
        default=3, description="And at least that many chats; fewer never trip it."
    )
    hold: Hold = Field(
        default=timedelta(minutes=10),
        description="How long the share must be back below the limit before it resets; "
        "until-resumed: a person resets it, with chatqueue resume.",
    )


class Sensor(Section):
    """When the heartbeats cannot be trusted: nothing is released then."""

    silence: Annotated[Duration, between("10s", "1d")] = Field(
        default=timedelta(minutes=3),
        description="No operator's heartbeat for this long, with two or more chats assigned, "
        "means that the heartbeats are broken, not that the operators are gone.",
    )
    after_restart: Annotated[Duration, between("0s", "1d")] = Field(
        default=timedelta(minutes=15),
        description="How long nothing is released after a start of the database server.",
    )


class Release(Section):
    """Handing stuck chats back to the queue. Off by default."""

    mode: Mode = Field(
        default="off",
        description="off; observe: decide everything in a transaction that is rolled back, and "
        "report what would have been done; enforce: do it. Observe for a week first.",
    )
    stuck_after: Annotated[Duration, between("1m", "7d")] = Field(
        default=timedelta(minutes=15),
        description="An assigned chat is stuck when its operator showed no sign of life for this "
        "long, by the database's clock. At least 1m.",
    )
    life: Literal["tab", "input"] = Field(
        default="tab",
        description="What shows that an operator is present, beside assignments and messages. tab: "
        "an open browser tab, whose heartbeat arrives even while the operator is away, and "
        "input; input: mouse and keyboard only, by the browser's clock.",
    )
    confirm: Confirm = Field(
        default=Confirm(),
        description="How often a chat must have looked stuck before it is released.",
    )
    on_would_close: Literal["escalate", "requeue"] = Field(
        default="escalate",
        description="What to do where the platform's own release would close the chat for good: "
        "escalate notifies a person and changes nothing; requeue puts it back in the queue as a "
        "manual unassign does.",
    )
    per_cycle: Count = Field(default=3, description="Releases in one poll.")
    per_operator: Count = Field(default=1, description="Releases of one operator in one poll.")
    rate: Rate = Field(default=Rate(), description="Limit on the rate of releases.")
    cooldown: Annotated[Duration, between("0s", "90d")] = Field(
        default=timedelta(hours=1), description="A chat is not released again for this long."
    )
    per_chat: PerChat = Field(default=PerChat(), description="Releases of one chat.")
    breaker: Breaker = Field(
        default=Breaker(), description="Stops all releases when too many chats look stuck."
    )
    sensor: Sensor = Field(
        default=Sensor(), description="Stops all releases when heartbeats cannot be trusted."
    )
    alongside_idle_detector: Switch = Field(
        default=False,
        description="Whether to release while the platform's own idle detector does too. While "
        "it is false, releases by that detector in the last 10 minutes turn enforce into observe.",
    )
    require_free_operator: Switch = Field(
        default=True,
        description="Release only when another operator is available to take the chat.",
    )
