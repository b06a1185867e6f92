"""What a releaser is to do, as the configuration has it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from exporter.config.model import Config
from exporter.metrics.snapshot import Labels
from exporter.release.facts import Limits


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What a releaser is to do; a reload replaces it whole.

    Attributes:
        database: Name in the configuration.
        dsn: Connection string of the releasing role; kept out of repr.
        labels: Extra labels of the database.
        connect_timeout_s: For each host of the connection string.
        interval_s: Time between polls.
        limits: With the mode.
    """

    database: str
    dsn: str
    labels: Labels
    connect_timeout_s: float
    interval_s: float
    limits: Limits

    def __repr__(self) -> str:
        return f"ReleasePlan(database={self.database!r}, mode={self.limits.mode!r})"

    @property
    def gap_s(self) -> float:
        """Polls further apart than this are not successive."""
        return max(2.5 * self.interval_s, self.interval_s + 10)


def build_release_plans(config: Config) -> dict[str, ReleasePlan]:
    """Return one plan per database for the releaser."""
    return {
        name: ReleasePlan(
            database=name,
            dsn=(database.release_dsn or database.dsn).get_secret_value(),
            labels=tuple(sorted(database.labels.items())),
            connect_timeout_s=config.poll.connect_timeout.total_seconds(),
            interval_s=config.poll.interval.total_seconds(),
            limits=build_limits(config),
        )
        for name, database in config.databases.items()
    }


def build_limits(config: Config) -> Limits:
    """Return the limits of a configuration."""
    release = config.release
    hold = release.breaker.hold
    return Limits(
        mode=release.mode,
        life=release.life,
        stuck_after_s=release.stuck_after.total_seconds(),
        confirm_polls=release.confirm.polls,
        confirm_for_s=release.confirm.for_.total_seconds(),
        on_would_close=release.on_would_close,
        per_cycle=release.per_cycle,
        per_operator=release.per_operator,
        rate_per_hour=float(release.rate.per_hour),
        burst=float(release.rate.burst),
        cooldown_s=release.cooldown.total_seconds(),
        chat_releases=release.per_chat.releases,
        chat_window_s=release.per_chat.window.total_seconds(),
        breaker_share=release.breaker.share,
        breaker_at_least=release.breaker.at_least,
        breaker_hold_s=math.inf if hold is None else hold.total_seconds(),
        sensor_silence_s=release.sensor.silence.total_seconds(),
        after_restart_s=release.sensor.after_restart.total_seconds(),
        alongside_idle_detector=release.alongside_idle_detector,
        require_free_operator=release.require_free_operator,
    )
