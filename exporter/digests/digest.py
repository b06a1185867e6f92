"""An account → the text of a digest, readable in ten seconds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from exporter.config.watch import Watch
from exporter.digests.account import Account
from exporter.metrics.figures import ANY, FIGURES, GROUPS, NEW, Figure
from exporter.notify.notices import Notice
from exporter.text import format_duration, format_number, format_time, format_value

EVENT = "digest"
_LEGEND = "In brackets: since the last digest, since the watch began. Counts are since it began."
_ALWAYS = ("Chats", "Waits")


def build_digest(database: str, account: Account, watch: Watch, time: datetime) -> Notice:
    """Return the notice of one database's digest.

    Args:
        database: Name in the configuration.
        account: As of now.
        watch: With its beginning.
        time: The scheduled time this digest covers.
    """
    begun, ends, until = watch.started_at, watch.ends_at, watch.rollback_until
    if begun is None or ends is None or until is None:
        raise ValueError("there is no watch")
    troubles = find_troubles(account)
    length = format_duration(watch.for_, rounded=True)
    progress = f"{format_duration(time - begun, rounded=True)} of {length} watched"
    verdict = f"look at {troubles[0]}" if troubles else "calm"
    if len(troubles) > 1:
        verdict += f" and {len(troubles) - 1} more"
    lines = [
        f"{group}: {', '.join(_format_figure(f, account) for f in figures) or 'none'}"
        for group, figures in find_figures(account)
    ]
    if troubles:
        lines.insert(0, f"Look at: {', '.join(troubles)}")
    if time < until:
        left = format_duration(until - time, rounded=True)
        lines.append(f"Rollback possible for {left} more, until {format_time(until)}.")
    return Notice(
        EVENT,
        f"{database}: {'the watch is over' if time >= ends else progress}, {verdict}",
        (*lines, _LEGEND),
        {
            "database": database,
            "reason": ", ".join(troubles),
            "moment": time.isoformat(),
            "now": dict(account.now),
            "last": dict(account.digest),
            "start": dict(account.start),
        },
    )


def find_troubles(account: Account) -> list[str]:
    """Return what somebody should look at, in words; nothing means calm."""
    if not account.now.get("database_up"):
        return ["a database that does not answer"]
    return [text for figure in FIGURES.values() if (text := _format_trouble(figure, account))]


def _format_trouble(figure: Figure, account: Account) -> str:
    """What is wrong with a value; empty where nothing is."""
    value = account.now.get(figure.key)
    if figure.limit not in (ANY, NEW):
        return ""
    if value is None:
        # A value that was there and is gone is no 0.
        return f"{figure.words}, which are unknown" if figure.key in account.start else ""
    if figure.limit == NEW:
        value -= account.digest.get(figure.key, 0.0)
    if value <= 0:
        return ""
    details = account.details.get(figure.key, ())
    text = ", ".join(f"{name} {format_number(part)}" for name, part in details)
    new = "new " if figure.limit == NEW else ""
    return f"{format_number(value)} {new}{figure.words}{f' ({text})' if text else ''}"


def find_figures(account: Account) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each group with known values, and its figures but for those that are idle."""
    for group in GROUPS:
        figures = [f for f in FIGURES.values() if f.group == group and f.key in account.start]
        if figures:
            yield group, [f for f in figures if group in _ALWAYS or _is_worth(f, account)]


def _is_worth(figure: Figure, account: Account) -> bool:
    """Whether a value says more than that all is as it should be."""
    return account.now.get(figure.key) != 0 or any(find_changes(figure, account))


def _format_figure(figure: Figure, account: Account) -> str:
    """Write a value and its changes."""
    value = account.now.get(figure.key)
    if value is None:
        return f"{figure.words} unknown"
    last, begun = find_changes(figure, account)
    changes = [last] if figure.is_counter else [last, begun]
    text = f"{figure.words} {format_value(value, figure.unit)}"
    if not any(changes):
        return text
    return f"{text} ({', '.join(format_change(figure, change) for change in changes)})"


def find_changes(figure: Figure, account: Account) -> tuple[float, float]:
    """Return a value's change since the last digest and since the watch began; 0 if unknown."""
    value = account.now.get(figure.key)
    if value is None:
        return 0.0, 0.0
    least = 0.5 if figure.unit == "seconds" else 0.0
    changes = [value - values.get(figure.key, value) for values in (account.digest, account.start)]
    last, begun = (change if abs(change) > least else 0.0 for change in changes)
    return last, begun


def format_change(figure: Figure, change: float) -> str:
    """Write a change with its sign."""
    sign = "+" if change > 0 else "-" if change < 0 else "±"
    return sign + format_value(abs(change), figure.unit)
