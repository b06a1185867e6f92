"""The dashboard on the watch itself: are its metrics reliable, and what does it cost."""

from __future__ import annotations

from typing import Any

from tools.dashboards import verdict
from tools.dashboards.board import make_board
from tools.dashboards.expressions import (
    gauge,
    happened,
    happened_with_first,
    only_present,
    select,
    threshold,
    total,
    while_up,
    worst,
)
from tools.dashboards.panels import (
    BLUE,
    GREEN,
    RED,
    Ask,
    Panel,
    make_lines,
    make_stat,
    make_table,
    words,
)

_QUERY = "chatqueue_exporter_query"
_SUCCEEDED = f"{_QUERY}_last_success_timestamp_seconds"
_LOADED = "chatqueue_exporter_config_last_reload_success_timestamp_seconds"
_BY_QUERY = ("query",)


def make_health() -> dict[str, Any]:
    """Return the dashboard `chat-queue-exporter`."""
    return make_board(
        "chat-queue-exporter",
        "Chat queue: exporter health",
        "Are the metrics reliable: is the exporter there, does the database answer, and how old "
        "is what it said?",
        "now-6h",
        (
            ("", _now()),
            ("Queries", _queries()),
            ("The database as the exporter sees it", _database()),
            ("The exporter's process", _process()),
            ("Notices and logs", _outside()),
        ),
    )


def _now() -> list[Any]:
    return [
        verdict.firing_alerts(),
        verdict.data_age(),
        verdict.database_up(),
        make_stat(
            _small(
                "Failing queries",
                "Queries that failed at their latest try. The table below names them, the error "
                "panel their reason; the exporter's log has the words.",
                f"sum (1 - {gauge(f'{_QUERY}_success', by=_BY_QUERY)})",
                "short",
                "ChatQueueQueryFailing",
            ),
            steps=[(None, GREEN), (1, RED)],
            names=False,
        ),
        make_stat(
            _small(
                "Hidden rows",
                "Relations whose rows row-level security hides from the exporter's role. Above 0 "
                "the metrics that need them are missing: grant the role what deploy/ says.",
                while_up(total("chatqueue_database_row_security_hidden", over=("relation",))),
                "short",
                "ChatQueueRowsHidden",
            ),
            steps=[(None, GREEN), (1, RED)],
            names=False,
        ),
        make_stat(
            _small(
                "Configuration",
                "Whether the latest reload was accepted. Refused: the exporter goes on with the "
                "old file; `chatqueue check-config` names the fault.",
                f"min ({select('chatqueue_exporter_config_last_reload_successful')})",
                "bool_yes_no",
                "ChatQueueReloadFailed",
            ),
            mappings=[words({"1": ("in force", GREEN), "0": ("REFUSED", RED)})],
            names=False,
        ),
        make_stat(
            _small(
                "Loaded",
                "When the configuration in force was read. Older than your change: it was never "
                "reloaded.",
                f"1000 * max ({select(_LOADED)})",
                "dateTimeFromNow",
                "ChatQueueReloadFailed",
            ),
            steps=[(None, BLUE)],
            names=False,
        ),
        make_stat(
            Panel(
                "Version",
                "The exporters that run, by version. Two versions are a roll-out, or one that "
                "was left over.",
                (
                    Ask(
                        f"count by (version) ({select('chatqueue_exporter_build_info')})",
                        "{{version}}",
                    ),
                ),
                "short",
                ("ChatQueueExporterAbsent",),
                width=3,
                height=5,
            ),
            steps=[(None, BLUE)],
        ),
    ]


def _queries() -> list[Any]:
    return [
        make_table(
            Panel(
                "Every query",
                "State of each query: age of its samples, how often it runs, what it takes. An age "
                "of several intervals, or a red state: read the exporter's log for that query.",
                (
                    Ask(f"min by (query) ({select(f'{_QUERY}_success')})"),
                    Ask(f"time() - min by (query) ({gauge(_SUCCEEDED, by=_BY_QUERY)})"),
                    Ask(worst(f"{_QUERY}_interval_seconds", by=_BY_QUERY)),
                    Ask(worst(f"{_QUERY}_duration_seconds", by=_BY_QUERY)),
                    Ask(worst(f"{_QUERY}_rows", by=_BY_QUERY)),
                ),
                "s",
                ("ChatQueueQueryFailing",),
                width=12,
                height=16,
            ),
            key=_BY_QUERY,
            columns=("works", "age", "interval", "duration", "rows"),
            judged={"works": [(None, RED), (1, GREEN)]},
            units={"works": "bool_yes_no", "rows": "short"},
            sort_by="age",
        ),
        make_lines(
            Panel(
                "Age of the metrics",
                "Time since each query's last success: a saw of its interval in health. A line "
                "that climbs is a query that fails or waits; at the limit the watch is blind.",
                (
                    Ask(
                        f"time() - min by (query) ({gauge(_SUCCEEDED, by=_BY_QUERY)})", "{{query}}"
                    ),
                    Ask(threshold("data_age_seconds"), "limit"),
                ),
                "s",
                ("ChatQueueDataStale",),
                width=12,
            )
        ),
        make_lines(
            Panel(
                "Errors",
                "Failed queries by reason. timeout and locked: the database is slow or a migration "
                "runs; permission and missing: something changed; connection: see the database.",
                (
                    Ask(
                        only_present(
                            happened_with_first(f"{_QUERY}_errors_total", by=("query", "reason")),
                            "reason",
                            "none",
                            of=happened(f"{_QUERY}_failed_runs_total", by=_BY_QUERY),
                        ),
                        "{{query}} {{reason}}",
                    ),
                ),
                "short",
                ("ChatQueueQueryFailing",),
                width=12,
            ),
            bars=True,
        ),
        make_lines(
            Panel(
                "Time per query",
                "How long each query took. One that climbs with the data needs an index or a "
                "longer interval; all at once: the database is slow.",
                (Ask(worst(f"{_QUERY}_duration_seconds", by=_BY_QUERY), "{{query}}"),),
                "s",
                ("ChatQueueQueryFailing",),
                width=12,
            )
        ),
        make_lines(
            Panel(
                "Time per poll",
                "All queries of a database together: what the watch costs it when everything is "
                "due. Above a second, look at the slowest query.",
                (
                    Ask(
                        f"sum by (database) ({gauge(f'{_QUERY}_duration_seconds', by=_BY_QUERY)})",
                        "{{database}}",
                    ),
                ),
                "s",
                ("ChatQueueDataStale",),
                width=12,
            )
        ),
    ]


def _database() -> list[Any]:
    hidden = while_up(gauge("chatqueue_database_row_security_hidden", by=("relation",)))
    wrong = "chatqueue_platform_disagreement"
    return [
        make_lines(
            Panel(
                "Database up",
                "1 while the database answers, a gap while no exporter asks. Comes and goes: look "
                "at the pooler and the network before the database.",
                (Ask(f"min by (database) ({select('chatqueue_database_up')})", "{{database}}"),),
                "short",
                ("ChatQueueDatabaseDown", "ChatQueueDatabaseUnstable"),
                width=6,
                decimals=0,
            )
        ),
        make_lines(
            Panel(
                "Hidden by row-level security",
                "Relations of which the exporter's role sees no rows. Anything above 0: its "
                "metrics are missing, not zero; check the role's grants and policies.",
                (Ask(hidden, "{{database}} {{relation}}"),),
                "short",
                ("ChatQueueRowsHidden",),
                width=6,
                decimals=0,
            )
        ),
        make_lines(
            Panel(
                "Clocks apart",
                "Clock of the database minus the exporter's. Seconds of difference falsify ages; "
                "repair time synchronisation on the host that is wrong.",
                (Ask(gauge("chatqueue_database_clock_skew_seconds"), "{{database}}", None),),
                "s",
                ("ChatQueueClockSkew",),
                width=6,
                zero=False,
            )
        ),
        make_lines(
            Panel(
                "The platform's own values against these",
                "By how much the platform's view and queue function differ from the true figures. "
                "Steady is their known way of counting; a step is a change of the platform.",
                (Ask(gauge(wrong, 'figure!~".+_seconds"', by=("figure",)), "{{figure}}"),),
                "short",
                ("ChatQueueCountsDisagree",),
                width=6,
                zero=False,
            )
        ),
    ]


def _process() -> list[Any]:
    cpu = select("process_cpu_seconds_total")
    return [
        _of_process(
            "Memory",
            "Memory of the exporter. Flat is health; climbing for hours is a defect to report.",
            (Ask(select("process_resident_memory_bytes"), "{{instance}}"),),
            "bytes",
        ),
        _of_process(
            "Processor",
            "Share of one core. Much more than a few percent: very frequent scrapes or polls.",
            (Ask(f"max by (instance) (rate({cpu}[$__rate_interval]))", "{{instance}}"),),
            "percentunit",
        ),
        _of_process(
            "Open files",
            "Files and sockets. Rising towards the limit is a defect worth a report; restart it "
            "meanwhile.",
            (Ask(select("process_open_fds"), "{{instance}}"),),
            "short",
        ),
        _of_process(
            "Time per scrape",
            "How long Prometheus waits for the page. Above a tenth of a second: a slow network, or "
            "a machine without a free core.",
            (Ask(select("scrape_duration_seconds"), "{{instance}}"),),
            "s",
        ),
    ]


def _outside() -> list[Any]:
    last_line = f"time() - {gauge('chatqueue_log_last_line_timestamp_seconds', by=('source',))}"
    notices = happened("chatqueue_notifications_total", by=("webhook", "outcome"))
    return [
        make_lines(
            Panel(
                "Notices by what became of them",
                "Notices sent through webhooks; any but delivered did not reach its receiver: "
                "`chatqueue notify --test` tries the receiver. No data: no webhook is configured.",
                (Ask(only_present(notices, "outcome", "none"), "{{webhook}} {{outcome}}"),),
                "short",
                ("ChatQueueNoticeLost",),
                width=12,
                colors={"/delivered/": GREEN, "/rejected|expired|dropped/": RED},
                minimum_step="5m",
            ),
            bars=True,
        ),
        make_lines(
            Panel(
                "Silence of the logs",
                "Time since the latest line of each log. Longer than usual: its sender stopped or "
                "is refused, see the exporter's log. No data: no log is configured.",
                (Ask(last_line, "{{source}}"),),
                "s",
                ("ChatQueueLogNotFollowed",),
                width=12,
            )
        ),
    ]


def _of_process(title: str, text: str, asks: tuple[Ask, ...], unit: str) -> Any:
    return make_lines(Panel(title, text, asks, unit, ("ChatQueueExporterDown",), width=6, height=7))


def _small(title: str, text: str, expr: str, unit: str, alert: str) -> Panel:
    return Panel(title, text, (Ask(expr),), unit, (alert,), width=3, height=5)
