"""The configuration as frozen records: every key, its kind, its default and its meaning.

The descriptions here are the reference: `config.schema.json`, `config.example.yaml` and
`docs/configuration.md` are generated from them. No I/O; `load` fills in what lies in files.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from exporter.config.dsn import redact
from exporter.config.exported import Exported, QueryParameter
from exporter.config.logs import Logs
from exporter.config.notify import Notify
from exporter.config.prometheus import Prometheus
from exporter.config.release import Release
from exporter.config.section import Section
from exporter.config.thresholds import ServiceLevel, Thresholds
from exporter.config.values import (
    ByName,
    Dsn,
    Duration,
    FilePath,
    LabelName,
    Name,
    Parameter,
    ParameterName,
    QueryFolders,
    QueryName,
    ReasonPattern,
    ReleaseOutcome,
    SecretPath,
    Switch,
    Text,
    WholeNumber,
    between,
    fault,
    from_to,
)
from exporter.config.watch import Watch
from exporter.text import format_duration


def _check_timeout(timeout: timedelta, interval: timedelta | None) -> timedelta:
    if interval is not None and timeout > interval:
        text = format_duration(interval)
        raise fault(f"is longer than interval ({text})", f"{text} or less")
    return timeout


class Database(Section):
    """One database to watch."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["dsn"]}, {"required": ["dsn_file"]}],
        }
    )

    dsn: Dsn = Field(
        description="How to connect: a postgresql:// URI, or keywords such as `host=… dbname=…`. "
        "Keep the password out of this file: take it from the environment with ${NAME}, or use "
        "dsn_file. Give exactly one of dsn and dsn_file."
    )
    dsn_file: SecretPath | None = Field(
        default=None,
        description="A file which holds the connection string and nothing else; its text is taken "
        "as it is, without ${NAME}. Relative to this file; a bare name is looked for among "
        "systemd's credentials first. Read again at every reload.",
    )
    release_dsn: Dsn | None = Field(
        default=None,
        description="How the releaser connects, with a role that may write what a release writes "
        "and nothing else; the same as dsn unless given. Give at most one of release_dsn and "
        "release_dsn_file.",
    )
    release_dsn_file: SecretPath | None = Field(
        default=None,
        description="A file which holds that connection string, as dsn_file does.",
    )
    labels: ByName[LabelName, Text] = Field(
        default={},
        title="mapping of texts",
        description="Your own labels on every series of this database, for example "
        "`env: production`. Labels which the exporter sets itself, such as state, are refused.",
    )

    @property
    def safe_dsn(self) -> str:
        """The connection string with its passwords masked, fit for logs and terminals."""
        return redact(self.dsn.get_secret_value())


class Poll(Section):
    """How often databases are queried, and with what timeouts."""

    interval: Annotated[Duration, between("1s", "1d")] = Field(
        default=timedelta(seconds=15),
        description="Time between two polls of a database, for queries without their own interval. "
        "At least 1s, at most 1d.",
    )
    timeout: Annotated[Duration, between("100ms", "1h")] = Field(
        default=timedelta(seconds=5),
        description="How long one query may run before it is cancelled. At least 100ms, and not "
        "longer than interval.",
    )
    connect_timeout: Annotated[Duration, between("1s", "1h")] = Field(
        default=timedelta(seconds=5),
        description="How long to wait for a connection to one host. At least 1s.",
    )

    @field_validator("timeout")
    @classmethod
    def _within_interval(cls, timeout: timedelta, info: ValidationInfo) -> timedelta:
        return _check_timeout(timeout, info.data.get("interval"))


class Override(Section):
    """What is changed about one query; a key that is left out keeps the query's own value."""

    enabled: Switch | None = Field(
        default=None, description="false switches the query off, and its metrics with it."
    )
    interval: Annotated[Duration, between("1s", "1d")] | None = Field(
        default=None, description="Time between two runs of this query. At least 1s, at most 1d."
    )
    timeout: Annotated[Duration, between("100ms", "1h")] | None = Field(
        default=None,
        description="How long this query may run before it is cancelled. At least 100ms, and not "
        "longer than its interval.",
    )
    max_age: Annotated[Duration, between("1s", "7d")] | None = Field(
        default=None,
        description="How old the last good result may become before its metrics disappear; three "
        "intervals unless given. Not shorter than the interval.",
    )

    @field_validator("timeout")
    @classmethod
    def _within_interval(cls, timeout: timedelta | None, info: ValidationInfo) -> timedelta | None:
        return None if timeout is None else _check_timeout(timeout, info.data.get("interval"))

    @field_validator("max_age")
    @classmethod
    def _beyond_interval(cls, max_age: timedelta | None, info: ValidationInfo) -> timedelta | None:
        interval: timedelta | None = info.data.get("interval")
        if max_age is not None and interval is not None and max_age < interval:
            text = format_duration(interval)
            raise fault(f"is shorter than interval ({text})", f"{text} or more")
        return max_age


class Queries(Section):
    """Which queries run, and with which parameters."""

    dirs: QueryFolders = Field(
        default=(),
        title="list of paths",
        description="Your own folders with queries (`.sql` and `.yaml` pairs), relative to "
        "this file. They are treated exactly as the built-in ones.",
    )
    overrides: ByName[QueryName, Override] = Field(
        default={},
        title="mapping of overrides",
        description="Changes to single queries, built-in or your own, by the query's name.",
    )
    parameters: ByName[ParameterName, Parameter] = Field(
        default={},
        title="mapping of texts, numbers, true or false",
        description="Values for your own queries, which write them as `%(name)s`.",
    )


class Operators(Section):
    """How operators appear in metrics."""

    max_series: Annotated[
        WholeNumber,
        from_to(0, 10_000),
        QueryParameter("operators_max_series"),
    ] = Field(
        default=200,
        description='How many operators get their own series; the rest are operator="other".',
    )
    label: Annotated[Literal["name", "id"], QueryParameter("operators_label")] = Field(
        default="name",
        description="What the operator label shows: name, or id where names are personal data.",
    )


class Events(Section):
    """How events are counted."""

    overlap: Annotated[Duration, between("1s", "10m"), QueryParameter("event_overlap")] = Field(
        default=timedelta(seconds=30),
        description="How far behind the previous poll each poll looks again. Longer than the "
        "platform's longest transaction: a row that is stamped when its transaction begins and "
        "seen when it commits would otherwise be missed.",
    )
    release_reasons: ByName[ReasonPattern, ReleaseOutcome] = Field(
        default={},
        title="mapping of outcomes",
        description="Your own release reasons, as SQL LIKE patterns, each with the outcome it "
        "counts as: `timeout_by_bot%: idle_timeout`. They come before the built-in ones.",
    )


class Checks(Section):
    """How chats in an invalid state are found."""

    grace: Annotated[
        Duration,
        between("0s", "1h"),
        QueryParameter("checks_grace"),
        Exported("checks_grace_seconds"),
    ] = Field(
        default=timedelta(seconds=30),
        description="How long a chat may contradict itself before it counts as invalid: the "
        "application writes its steps in separate requests.",
    )


class Web(Section):
    """What the daemon's own page shows; how it is protected is in the web configuration."""

    chats: Switch = Field(
        default=True,
        description="Whether the page lists chats by id, to users and on loopback only. off "
        "removes the list for all; `chatqueue chats` is not affected.",
    )


def _require_databases(schema: dict[str, Any]) -> None:
    """Let an editor accept a file with either key; the loader puts databases in."""
    del schema["required"]
    schema["anyOf"] = [{"required": ["databases"]}, {"required": ["databases_dir"]}]


class Config(Section):
    """The whole file."""

    model_config = ConfigDict(json_schema_extra=_require_databases)

    databases: ByName[Name, Database] = Field(
        title="sections by name",
        description="The databases to watch, each under the name its `database` label shows: 1 to "
        "63 letters, digits, _, . or -. At least one, unless databases_dir is given.",
    )
    databases_dir: FilePath | None = Field(
        default=None,
        description="A folder with one file for each further database, `<name>.yaml`, which holds "
        "what would stand below its name here; for a generator to write. Paths in these files are "
        "relative to this one. Read again at every reload.",
    )
    poll: Poll = Field(
        default=Poll(), description="How often databases are queried, and with what timeouts."
    )
    queries: Queries = Field(
        default=Queries(), description="Which queries run, and with which parameters."
    )
    thresholds: Thresholds = Field(
        default=Thresholds(),
        description="What counts as late. Every threshold is a metric which alert rules compare "
        "against, so a reload re-tunes the alerts without touching Prometheus.",
    )
    operators: Operators = Field(
        default=Operators(), description="How operators appear in metrics."
    )
    slo: ServiceLevel = Field(
        default=ServiceLevel(), description="The service level promised to users."
    )
    events: Events = Field(default=Events(), description="How events are counted.")
    checks: Checks = Field(default=Checks(), description="How chats in an invalid state are found.")
    release: Release = Field(
        default=Release(), description="Handing stuck chats back to the queue."
    )
    logs: Logs = Field(default=Logs(), description="Errors in the platform's logs.")
    watch: Watch = Field(default=Watch(), description="The watch after a deployment.")
    notify: Notify = Field(
        default=Notify(),
        description="Webhooks that report what auto-release does, and digests of the watch.",
    )
    web: Web = Field(default=Web(), description="What the daemon's own page shows.")
    prometheus: Prometheus = Field(
        default=Prometheus(),
        description="The Prometheus that scrapes this exporter; only `chatqueue report` asks it.",
    )
