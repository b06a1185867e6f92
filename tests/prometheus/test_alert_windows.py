"""Windows with holes in them, and windows where Prometheus scrapes less often."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from pathlib import Path

import pytest

from exporter.ops.rules import Links, write_rules
from tests.prometheus import promtool
from tests.prometheus.alert_cases import (
    AVAILABLE,
    CASES,
    DATABASE,
    INTERVAL_S,
    TARGET,
    WAITING,
    Case,
    Series,
)
from tests.prometheus.promtool import RULES, expand
from tests.prometheus.test_alert_rules import (
    QUIET,
    THRESHOLDS,
    broken,
    build_test,
    find_case,
    label,
    labels_of,
)

# Rules that compute over a window, and do not only look for its last sample.
WINDOWED = {
    key
    for key, rule in RULES.items()
    if re.search(r"\b(?!last)\w+_over_time\(|\b(increase|rate|resets|changes)\(", rule["expr"])
}
# A pause goes on while nobody looks: its case is 15 s below the limit, and a hole adds two minutes.
WINDOWED -= {("ChatQueueReleasePausedTooLong", "warning")}
SLOW_S = 60
# Every fourth sample of these is another story: what matters happens between two of them.
FIRES_BETWEEN = {"ChatQueueDatabaseUnstable", "ChatQueueExporterDown", "ChatQueueExporterAbsent"}
CALM_BETWEEN = {"ChatQueueDatabaseDown", "ChatQueueLogNotFollowed", "ChatQueueQueryFailing"}
SCRAPED_SLOWLY = [case for case in CASES if case.alert not in FIRES_BETWEEN]


def holed(series: Series, names: Collection[str], at: int, missing: int) -> dict[str, str]:
    """Series that go on after a time without samples; those that are not named stay the same."""
    result = {}
    for name, values in series.items():
        tokens = expand(values)
        hole = ["_" if name in names else tokens[at]] * missing
        result[name] = " ".join([*tokens[:at], *hole, *tokens[at:]])
    return result


@pytest.mark.parametrize("key", sorted(WINDOWED), ids="-".join)
def test_a_time_without_samples_is_no_reason_to_fire(key: tuple[str, str], tmp_path: Path) -> None:
    case = find_case(*key)
    limits = {**THRESHOLDS, case.threshold: case.limit} if case.threshold else THRESHOLDS
    stories = {"just below": case.quiet}
    stories |= {story: series for story, (*whose, series) in QUIET.items() if tuple(whose) == key}
    tests = {}
    for story, series in stories.items():
        length = max(len(expand(values)) for values in series.values())
        # Shorter than most windows, and longer; in all series, and in one of them.
        for missing, names in itertools.product((36, 160), [set(series), *({n} for n in series)]):
            given = holed(series, names, length // 2, missing)
            ever = dict.fromkeys(range(0, (length + missing) * INTERVAL_S, 60), False)
            name = f"{story}, {missing} samples of {', '.join(sorted(names))} missing"
            tests[name] = build_test(case, given, ever, limits)

    assert promtool.run_tests(tmp_path, tests, promtool.only(tmp_path, case.alert)) == ""


def test_a_scrape_that_was_missed_ten_minutes_ago_is_bridged(tmp_path: Path) -> None:
    case = find_case("ChatQueueNotDraining", "critical")
    times = dict.fromkeys(range(660, 80 * INTERVAL_S, INTERVAL_S), True)
    test = build_test(case, broken(case.firing, 20, 1), times)

    assert promtool.run_tests(tmp_path, {"one": test}, promtool.only(tmp_path, case.alert)) == ""


@pytest.mark.parametrize("unseen", [WAITING, AVAILABLE, "chatqueue_assignments_total"])
def test_a_queue_may_have_emptied_while_it_was_not_seen(unseen: str, tmp_path: Path) -> None:
    case = find_case("ChatQueueNotDraining", "critical")
    given = holed(dict.fromkeys(case.firing, "7x80"), {unseen}, 30, 36)
    # From 12 minutes after the hole on it is known that nothing was assigned.
    times = dict.fromkeys(range(540, 66 * INTERVAL_S + 600, 30), False)
    times[66 * INTERVAL_S + 12 * 60] = True
    test = build_test(case, given, times)

    assert promtool.run_tests(tmp_path, {"hole": test}, promtool.only(tmp_path, case.alert)) == ""


def test_hours_without_samples_are_no_pause(tmp_path: Path) -> None:
    case = find_case("ChatQueueReleasePausedTooLong", "warning")
    # Paused for 20 min, three hours without samples, 25 min paused again, against a limit of 1 h.
    series = dict.fromkeys(case.firing, "1x80 0x40 _x720 1x100")
    ever = range(0, 940 * INTERVAL_S, 20 * INTERVAL_S)
    test = build_test(case, series, dict.fromkeys(ever, False), {case.threshold: case.limit})

    assert promtool.run_tests(tmp_path, {"hole": test}, promtool.only(tmp_path, case.alert)) == ""


def scraped_slowly(series: Series, at: int, missing: int) -> dict[str, str]:
    """Every fourth sample, of which some are missing."""
    step = SLOW_S // INTERVAL_S
    slow = {name: " ".join(expand(values)[::step]) for name, values in series.items()}
    return broken(slow, at, missing)


@pytest.fixture(scope="module")
def slow_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules for a scrape a minute."""
    folder = tmp_path_factory.mktemp("slow")
    write_rules(folder, Links(scrape_interval_s=SLOW_S))
    return folder


@pytest.mark.parametrize("case", SCRAPED_SLOWLY, ids=str)
def test_a_scrape_a_minute_may_be_missed_too(case: Case, slow_rules: Path, tmp_path: Path) -> None:
    limits = {**THRESHOLDS, **({case.threshold: case.limit} if case.threshold else {})}
    # What lasts a minute by the shipped rules has to last two, and begins between two scrapes.
    fires_s = -(-(case.fires_s + 2 * SLOW_S) // SLOW_S) * SLOW_S
    tests = {}
    for name, series, missing in (
        ("fires", case.firing, 0),
        ("bridges", case.firing, 2),
        ("stays quiet", {} if case.alert in CALM_BETWEEN else case.quiet, 0),
    ):
        given = scraped_slowly(series, fires_s // SLOW_S // 2, missing)
        length = max((len(values.split()) for values in given.values()), default=10)
        given = {label(n, labels_of(case)): values for n, values in given.items()}
        for limit, value in limits.items():
            given[label(limit, {**TARGET, **DATABASE})] = " ".join([value] * length)
        fires = name != "stays quiet"
        found = f'ALERTS{{alertname="{case.alert}",severity="{case.severity}",alertstate="firing"}}'
        tests[name] = {
            "interval": f"{SLOW_S}s",
            "input_series": [{"series": n, "values": values} for n, values in given.items()],
            "promql_expr_test": [
                {
                    "expr": f"count({found}) or vector(0)",
                    "eval_time": f"{at_s}s",
                    "exp_samples": [{"labels": "{}", "value": int(fires)}],
                }
                for at_s in ([fires_s] if fires else range(0, length * SLOW_S, SLOW_S))
            ],
        }
    file = promtool.only(tmp_path, case.alert, slow_rules)

    assert promtool.run_tests(tmp_path, tests, file) == ""
