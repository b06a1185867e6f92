"""The row of key values: each judged by its thresholds, in words. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from exporter.metrics.figures import FIGURES
from exporter.server.page.alarms import Scene, find_service_level
from exporter.text import format_value

Tone = Literal["ok", "unknown", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One key value.

    Attributes:
        key: Its name in the page.
        words: Its name.
        value: In words.
        tone: As its thresholds have it.
        note: What that means, in words.
    """

    key: str
    words: str
    value: str
    tone: Tone
    note: str


def build_tiles(scene: Scene) -> tuple[Tile, ...]:
    """The row of key values."""
    stale_share = scene.limit("stale_operators_ratio")
    return (
        _age_tile(scene, "oldest_waiting", "Oldest wait in the queue"),
        _age_tile(scene, "customer_wait", "Longest unanswered user"),
        _plain_tile(scene, "waiting", "Chats waiting"),
        _plain_tile(scene, "available", "Operators available", warns=scene.value("waiting")),
        _plain_tile(scene, "on_chat", "Operators busy"),
        _stale_tile(scene, stale_share),
        _any_tile(scene, "invalid", "Invalid chats"),
        _service_tile(scene),
        _freshness_tile(scene),
    )


def _age_tile(scene: Scene, key: str, words: str) -> Tile:
    """An age with two limits."""
    value, labels = scene.value(key), FIGURES[key].labels
    name = FIGURES[key].limit.removeprefix("chatqueue_threshold_")
    warning, critical = (
        scene.limit(name, severity=each, **labels) for each in ("warning", "critical")
    )
    shown = format_value(value, "seconds")
    for tone, limit in (("critical", critical), ("warning", warning)):
        if value > limit:
            note = f"{tone}, over {format_value(limit, 'seconds')}"
            return Tile(key, words, shown, "critical" if tone == "critical" else "warning", note)
    if math.isnan(value):
        return Tile(key, words, shown, "unknown", "unknown")
    if math.isinf(warning):
        return Tile(key, words, shown, "ok", "no limit")
    return Tile(key, words, shown, "ok", f"ok, limit {format_value(warning, 'seconds')}")


def _plain_tile(scene: Scene, key: str, words: str, warns: float = 0.0) -> Tile:
    """A count without a limit; none at all warns where `warns` chats wait."""
    value = scene.value(key)
    if math.isnan(value):
        return Tile(key, words, "-", "unknown", "unknown")
    if value == 0 and warns > 0:
        return Tile(key, words, "0", "warning", "while chats wait")
    return Tile(key, words, format_value(value, ""), "ok", "")


def _any_tile(scene: Scene, key: str, words: str) -> Tile:
    """A count of which any is too many."""
    value = scene.value(key)
    if math.isnan(value):
        return Tile(key, words, "-", "unknown", "unknown")
    note = "warning, not none" if value > 0 else "ok, none"
    return Tile(key, words, format_value(value, ""), "warning" if value > 0 else "ok", note)


def _stale_tile(scene: Scene, share: float) -> Tile:
    value = scene.value("stale")
    if math.isnan(value):
        return Tile("stale", "Operators stale", "-", "unknown", "unknown")
    on_duty = value + scene.value("available") + scene.value("on_chat")
    if value > share * on_duty:
        note = f"warning, over {format_value(share, 'ratio')}"
        return Tile("stale", "Operators stale", format_value(value, ""), "warning", note)
    note = "ok, none" if value == 0 else f"ok, limit {format_value(share, 'ratio')}"
    return Tile("stale", "Operators stale", format_value(value, ""), "ok", note)


def _service_tile(scene: Scene) -> Tile:
    level, objective = find_service_level(scene.recorded), scene.limit("slo_objective_ratio")
    words = "Service level, last hour"
    if level is None:
        return Tile("service", words, "-", "unknown", "no wait in the last hour")
    shown, goal = format_value(level, "ratio"), format_value(objective, "ratio")
    if level < objective:
        return Tile("service", words, shown, "warning", f"warning, goal {goal}")
    return Tile("service", words, shown, "ok", f"ok, goal {goal}")


def _freshness_tile(scene: Scene) -> Tile:
    if not scene.answered_s:
        return Tile("data_age", "Data age", "-", "unknown", "no data yet")
    age_s, limit = max(0.0, scene.wall_s - scene.answered_s), scene.limit("data_age_seconds")
    shown, most = format_value(age_s, "seconds"), format_value(limit, "seconds")
    if age_s > limit:
        return Tile("data_age", "Data age", shown, "critical", f"critical, over {most}")
    return Tile("data_age", "Data age", shown, "ok", f"ok, limit {most}")
