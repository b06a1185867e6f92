"""PromQL for the panels: every selector filtered by the variables, every value per database.

Two exporters may watch one database (a standby, a roll-out): their equal values are taken once, by
`max by (database)`. Nothing here turns a missing value into a 0.
"""

from __future__ import annotations

import re

_FILTERS = 'job=~"$job",instance=~"$instance",database=~"$database"'
# What belongs to an exporter rather than to one of its databases.
_OWN = re.compile(
    r"chatqueue_(exporter_(build|config)|watch|log|notifications)_.+|(process|scrape)_.+|up"
)
_OWN_FILTERS = 'job=~"$job",instance=~"$instance"'
# An alert on a missing exporter has neither instance nor database, and must be seen all the same.
ALERT_FILTERS = 'job=~"$job|",instance=~"$instance|",database=~"$database|"'


def select(name: str, *matchers: str, filters: str = "") -> str:
    """Return the selector of a metric; matchers as in `state="assigned"`."""
    filters = filters or (_OWN_FILTERS if _OWN.fullmatch(name) else _FILTERS)
    return f"{name}{{{','.join((*matchers, filters))}}}"


def gauge(name: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return a gauge, one series a database and value of the `by` labels."""
    return f"max by ({', '.join(('database', *by))}) ({select(name, *matchers)})"


def total(name: str, *matchers: str, by: tuple[str, ...] = (), over: tuple[str, ...] = ()) -> str:
    """Return a gauge summed over databases and the `over` labels, one series a value of `by`.

    Every label that no matcher fixes must be in one of them, or it is not summed.
    """
    return f"sum{_by(by)} ({gauge(name, *matchers, by=(*by, *over))})"


def worst(name: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the highest value of a gauge over databases."""
    return f"max{_by(by)} ({select(name, *matchers)})"


def while_up(value: str) -> str:
    """Return a value only while every database answers: what outlives one would look calm."""
    return f"{value} and on () (min ({select('chatqueue_database_up')}) == 1)"


def per_second(name: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return a counter's rate, summed over databases."""
    return _of_counter("rate", "$__rate_interval", name, matchers, by)


def happened(name: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return how often something happened since the point before, summed over databases."""
    return _of_counter("increase", "$__rate_interval", name, matchers, by)


def happened_with_first(name: str, *matchers: str, by: tuple[str, ...]) -> str:
    """Return the same for a counter whose series are not there before their first event.

    What was not there in the hour before counts whole; a shorter gap in scrapes is no first event.
    """
    series = select(name, *matchers)
    first = f"{series} unless last_over_time({series}[1h] offset $__rate_interval)"
    counted = f"{first} or increase({series}[$__rate_interval])"
    return f"sum{_by(by)} (max by ({', '.join(('database', *by))}) ({counted}))"


def happened_in_range(name: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return how often something happened in the dashboard's time range."""
    return _of_counter("increase", "$__range", name, matchers, by)


def quantile(level: float, name: str) -> str:
    """Return a quantile of a histogram in seconds, over all databases."""
    return f"histogram_quantile({level}, {per_second(f'{name}_bucket', by=('le',))})"


def threshold(name: str, *matchers: str) -> str:
    """Return a configured limit as a line to draw; nothing where it is off, which is +Inf."""
    return f"min ({select(f'chatqueue_threshold_{name}', *matchers)}) < +Inf"


def judge(value: str, name: str, *matchers: str, words: tuple[str, str, str]) -> str:
    """Return a value with the label `verdict`, judged by the exporter's own two thresholds.

    Args:
        value: One series without labels.
        name: The threshold after `chatqueue_threshold_`; has a label `severity`.
        matchers: That choose among its series.
        words: For below both, between them, and above.
    """
    warning = f"min ({select(f'chatqueue_threshold_{name}', *matchers, _severity('warning'))})"
    critical = f"min ({select(f'chatqueue_threshold_{name}', *matchers, _severity('critical'))})"
    calm, late, too_late = words
    return label_verdicts(
        (f"({value} < on () {warning}) < on () {critical}", calm),
        (f"({value} >= on () {warning}) < on () {critical}", late),
        (f"{value} >= on () {critical}", too_late),
    )


def judge_by_one(value: str, name: str, *, words: tuple[str, str]) -> str:
    """Return a value with the label `verdict`, judged by a threshold without severities."""
    limit = f"min ({select(f'chatqueue_threshold_{name}')})"
    return label_verdicts(
        (f"{value} < on () {limit}", words[0]), (f"{value} >= on () {limit}", words[1])
    )


def label_verdicts(*cases: tuple[str, str]) -> str:
    """Return whichever case has a series, its word in the label `verdict`."""
    labelled = [f'label_replace({case}, "verdict", "{word}", "", "")' for case, word in cases]
    return "\nor\n".join(labelled)


def only_present(value: str, label: str, nothing: str, *, of: str = "") -> str:
    """Return the series above 0, or one called `nothing` where all of them, or of `of`, are 0."""
    none = f'label_replace(sum ({of or value}) == 0, "{label}", "{nothing}", "", "")'
    return f"{value} > 0\nor on ()\n{none}"


def alerts(severity: str) -> str:
    """Return how many alerts of a severity fire: 0 only where the always firing one proves it.

    Without the rules, or without the exporter's watchdog alert, there is no series.
    """
    firing = select(
        "ALERTS",
        'alertname=~"ChatQueue.+"',
        'alertstate="firing"',
        _severity(severity),
        filters=ALERT_FILTERS,
    )
    watchdog = select(
        "ALERTS", 'alertname="ChatQueueWatchdog"', 'alertstate="firing"', filters=ALERT_FILTERS
    )
    return f"count ({firing}) or 0 * count ({watchdog})"


def _of_counter(
    function: str, window: str, name: str, matchers: tuple[str, ...], by: tuple[str, ...]
) -> str:
    grouped = ", ".join(("database", *by))
    return f"sum{_by(by)} (max by ({grouped}) ({function}({select(name, *matchers)}[{window}])))"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _severity(value: str) -> str:
    return f'severity="{value}"'
