"""An account → the words of a digest, readable in ten seconds. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from exporter.config.watch import Watch
from exporter.digests.account import Account
from exporter.metrics.figures import FIGURES, GROUPS, Figure
from exporter.notify.notices import Notice
from exporter.text import say_duration, say_moment, say_number

EVENT = "digest"
_LEGEND = "In brackets: since the last digest, since the watch began. Counts are since it began."
_UNKNOWN = "?"
_ALWAYS = ("Chats", "Waits")


def build_digest(database: str, account: Account, watch: Watch, moment: datetime) -> Notice:
    """Return the notice of one database's digest.

    Args:
        database: Name in the configuration.
        account: As of now.
        watch: With its beginning.
        moment: The moment of the rhythm that is told of.
    """
    begun, ends = watch.started_at, watch.ends_at
    if begun is None or ends is None:
        raise ValueError("there is no watch")
    troubles = find_troubles(account)
    passed = say_duration((moment - begun).total_seconds())
    length = say_duration(watch.for_.total_seconds())
    how_far = "the watch is over" if moment >= ends else f"{passed} of {length} watched"
    verdict = f"look at {troubles[0]}" if troubles else "calm"
    if len(troubles) > 1:
        verdict += f" and {len(troubles) - 1} more"
    lines = (
        *([f"Look at: {', '.join(troubles)}"] if troubles else []),
        *(f"{group}: {', '.join(words)}" for group, words in say_groups(account)),
        *_deadline(watch, moment),
        _LEGEND,
    )
    return Notice(
        EVENT,
        f"{database}: {how_far}, {verdict}",
        lines,
        {
            "database": database,
            "reason": ", ".join(troubles),
            "moment": moment.isoformat(),
            "now": dict(account.now),
            "last": dict(account.digest),
            "start": dict(account.start),
        },
    )


def find_troubles(account: Account) -> list[str]:
    """Return what somebody should look at, in words; nothing means calm."""
    if not account.now.get("database_up"):
        return ["a database that does not answer"]
    return [words for figure in FIGURES if (words := _trouble(figure, account))]


def _trouble(figure: Figure, account: Account) -> str:
    """What is wrong with a figure; empty where nothing is."""
    value = account.now.get(figure.key)
    if figure.alarm == "never":
        return ""
    if value is None:
        # A figure that was there and is gone is no 0.
        return f"{figure.name}, which are not known" if figure.key in account.start else ""
    if figure.alarm == "growth":
        value -= account.digest.get(figure.key, 0.0)
    if value <= 0:
        return ""
    new = "new " if figure.alarm == "growth" else ""
    return f"{say_number(value)} {new}{figure.name}{_detail(figure, account)}"


def find_figures(account: Account) -> Iterator[tuple[str, list[Figure]]]:
    """Yield each group that is known, and its figures but for those that are idle."""
    for group in GROUPS:
        known = [f for f in FIGURES if f.group == group and f.key in account.start]
        if known:
            yield group, [f for f in known if group in _ALWAYS or _is_worth(f, account)]


def say_groups(account: Account) -> Iterator[tuple[str, list[str]]]:
    """Yield each line of a digest: its heading and its figures."""
    for group, figures in find_figures(account):
        yield group, [say_figure(figure, account) for figure in figures] or ["none"]


def say_figure(figure: Figure, account: Account) -> str:
    """Say a figure and its changes."""
    value = account.now.get(figure.key)
    if value is None:
        return f"{figure.name} {_UNKNOWN}"
    last, begun = find_changes(figure, account)
    changes = [last] if figure.is_counter else [last, begun]
    shown = f"{figure.name} {say_value(figure, value)}"
    if not any(changes):
        return shown
    return f"{shown} ({', '.join(say_change(figure, change) for change in changes)})"


def find_changes(figure: Figure, account: Account) -> tuple[float, float]:
    """Return a figure's change since the last digest and since the watch began; 0 if not known."""
    value = account.now.get(figure.key)
    if value is None:
        return 0.0, 0.0
    last, begun = (
        value - before.get(figure.key, value) for before in (account.digest, account.start)
    )
    least = 0.5 if figure.unit == "seconds" else 0.0
    return (last if abs(last) > least else 0.0), (begun if abs(begun) > least else 0.0)


def say_value(figure: Figure, value: float) -> str:
    """Say a figure's value in its unit."""
    return say_duration(value) if figure.unit == "seconds" else say_number(value)


def say_change(figure: Figure, change: float) -> str:
    """Say a change with its sign."""
    sign = "+" if change > 0 else "-" if change < 0 else "±"
    return sign + say_value(figure, abs(change))


def _is_worth(figure: Figure, account: Account) -> bool:
    """Whether a figure says more than that all is as it should be."""
    value = account.now.get(figure.key)
    return value != 0 or any(find_changes(figure, account))


def _detail(figure: Figure, account: Account) -> str:
    """What a figure is made of."""
    parts = account.details.get(figure.key, ())
    return (
        f" ({', '.join(f'{name} {say_number(value)}' for name, value in parts)})" if parts else ""
    )


def _deadline(watch: Watch, moment: datetime) -> Iterator[str]:
    """How long a rollback is still possible."""
    until = watch.rollback_until
    if until is not None and moment < until:
        left = say_duration((until - moment).total_seconds())
        yield f"Rollback possible for {left} more, until {say_moment(until)}."
