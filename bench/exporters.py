"""The exporters side by side: ours and three peers, each configured as its own docs ask.

All ask the same four questions: the state summary, the queue status, the stuck chats, and the load
of each operator as a labelled metric. Ours asks all its other built-in queries as well. The number
of operators shown makes up the size of a page.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.load import BadAnswer, count_series, read_page
from bench.processes import Program, ProgramError
from exporter.demo.machine import find_free_port

QUERY_EXPORTER_PACKAGES = ("query-exporter", "psycopg2-binary")
INTERVAL_S = 15
_START_LIMIT_S = 60.0

STATE_SUMMARY = """
SELECT chat_state AS state, count AS chats, with_operator AS chats_with_operator,
       has_last_operator AS chats_with_last_operator,
       extract(EPOCH FROM oldest_chat)::float8 AS oldest_chat_timestamp_seconds,
       extract(EPOCH FROM newest_chat)::float8 AS newest_chat_timestamp_seconds
FROM public.chat_state_summary
"""
QUEUE_STATUS = """
SELECT total_waiting AS waiting_chats, total_assigned AS assigned_chats,
       total_waiting_reply AS waiting_reply_chats,
       extract(EPOCH FROM now() - oldest_waiting_chat)::float8 AS oldest_age_seconds,
       (average_wait_time_minutes * 60)::float8 AS mean_age_seconds
FROM public.get_assignment_queue_status()
"""
STUCK_CHATS = """
SELECT chat_state AS state, count(*) AS stuck_chats
FROM public.detect_stuck_chats(1)
GROUP BY chat_state
"""
OPERATOR_LOAD = """
SELECT o.name AS operator, count(DISTINCT a.chat_id) AS operator_chats
FROM public.operators AS o
LEFT JOIN public.chat_assignments AS a
  ON a.operator_id = o.id AND a.assigned_at > now() - interval '1 hour'
WHERE o.is_active
GROUP BY o.id, o.name
ORDER BY 2 DESC, o.name
LIMIT {operators}
"""

# Name, SQL, label column or None, value columns.
FOUR_QUERIES: tuple[tuple[str, str, str | None, tuple[str, ...]], ...] = (
    (
        "chat_state",
        STATE_SUMMARY,
        "state",
        (
            "chats",
            "chats_with_operator",
            "chats_with_last_operator",
            "oldest_chat_timestamp_seconds",
            "newest_chat_timestamp_seconds",
        ),
    ),
    (
        "queue_status",
        QUEUE_STATUS,
        None,
        (
            "waiting_chats",
            "assigned_chats",
            "waiting_reply_chats",
            "oldest_age_seconds",
            "mean_age_seconds",
        ),
    ),
    ("stuck", STUCK_CHATS, "state", ("stuck_chats",)),
    ("operator_load", OPERATOR_LOAD, "operator", ("operator_chats",)),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One start of an exporter.

    Attributes:
        dsn: `postgresql://` URI of the database.
        operators: How many operators get a series.
        port: To serve on.
        directory: For its configuration, of its own.
    """

    dsn: str
    operators: int
    port: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start an exporter."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Exporter:
    """One exporter under measurement.

    Attributes:
        name: As its makers call it.
        version: Installed; empty where it is not.
        asks: When it asks the database.
        problem: Why it cannot be measured; empty where it can.
        launch: Writes its configuration and says how to start it.
    """

    name: str
    version: str
    asks: str
    problem: str
    launch: Callable[[Setting], Launch]

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True, slots=True)
class Running:
    """An exporter that serves its full page.

    Attributes:
        exporter: Which.
        program: Its process.
        port: Where it serves.
        series: Samples on its page.
    """

    exporter: Exporter
    program: Program
    port: int
    series: int


def find_exporters(cache: Path, note: Callable[[str], None]) -> tuple[Exporter, ...]:
    """Return ours and the peers, those that are not installed with the reason.

    Args:
        cache: Gets a virtual environment of its own for query-exporter.
        note: Told what is going on.
    """
    query_exporter = cache / "query-exporter"
    problem = _install_query_exporter(query_exporter, note)
    return (
        Exporter(
            "chatqueue-exporter",
            importlib.metadata.version("chatqueue-exporter"),
            "every 15 s and 60 s",
            "",
            _launch_ours,
        ),
        Exporter(
            "query-exporter",
            ""
            if problem
            else _find_version([str(query_exporter / "bin/query-exporter"), "--version"]),
            f"every {INTERVAL_S} s",
            problem,
            lambda setting: _launch_query_exporter(query_exporter, setting),
        ),
        Exporter(
            "prometheus-sql-exporter",
            *_debian("prometheus-sql-exporter", f"every {INTERVAL_S} s"),
            _launch_sql_exporter,
        ),
        Exporter(
            "prometheus-postgres-exporter",
            *_debian("prometheus-postgres-exporter", "on each scrape"),
            _launch_postgres_exporter,
        ),
    )


@contextlib.contextmanager
def run_exporter(exporter: Exporter, dsn: str, operators: int, work_dir: Path) -> Iterator[Running]:
    """Run an exporter until its page shows that many operators.

    Raises:
        ProgramError: It did not start, ended, or never showed them.
    """
    port = find_free_port()
    directory = work_dir / f"{exporter.name}-{port}"
    directory.mkdir(parents=True)
    launch = exporter.launch(Setting(dsn, operators, port, directory))
    with Program(launch.command, directory / "log", dict(launch.environment)) as program:
        page = _wait_for_operators(program, port, operators)
        yield Running(exporter, program, port, count_series(page))


def _wait_for_operators(program: Program, port: int, operators: int) -> str:
    """The page once it is full."""
    deadline = time.monotonic() + _START_LIMIT_S
    shown = 0
    while time.monotonic() < deadline:
        program.check_running()
        with contextlib.suppress(OSError, BadAnswer):
            page = read_page(port)
            shown = sum('operator="' in line for line in page.splitlines())
            if shown >= operators and 'state="assigned"' in page:
                return page
        time.sleep(0.05)
    raise ProgramError(
        f"shows {shown} of {operators} operators after {_START_LIMIT_S:.0f} s: "
        f"{program.output_tail()}"
    )


def _launch_ours(setting: Setting) -> Launch:
    """`chatqueue run` with everything at its default but the cap on operators."""
    config = {
        "databases": {"bench": {"dsn": setting.dsn}},
        "operators": {"max_series": setting.operators},
    }
    options = ("--web.listen-address", f"127.0.0.1:{setting.port}", "--log.level", "warning")
    return Launch(
        (
            sys.executable,
            "-m",
            "exporter",
            "run",
            "--config.file",
            _write(setting, config),
            *options,
        )
    )


def _launch_query_exporter(home: Path, setting: Setting) -> Launch:
    """A query each with an interval; a metric a column, labels from columns."""
    metrics: dict[str, Any] = {}
    queries: dict[str, Any] = {}
    for name, sql, label, columns in FOUR_QUERIES:
        named = {column: f"{name}_{column}" for column in columns}
        text = sql.format(operators=setting.operators)
        for column, metric in named.items():
            text = re.sub(rf"\bAS {column}\b", f"AS {metric}", text)
            metrics[metric] = {"type": "gauge", "description": column.replace("_", " ")}
            if label:
                metrics[metric]["labels"] = [label]
        queries[name] = {
            "interval": INTERVAL_S,
            "databases": ["bench"],
            "metrics": list(named.values()),
            "sql": text,
        }
    # With the driver named, SQLAlchemy's default does not matter.
    dsn = setting.dsn.replace("postgresql://", "postgresql+psycopg2://")
    config = {"databases": {"bench": {"dsn": dsn}}, "metrics": metrics, "queries": queries}
    options = ("--host", "127.0.0.1", "--port", str(setting.port), "--log-level", "warning")
    return Launch((str(home / "bin/query-exporter"), "--config", _write(setting, config), *options))


def _launch_sql_exporter(setting: Setting) -> Launch:
    """One job with an interval and its queries; a sample a value column."""
    config = {
        "jobs": [
            {
                "name": "platform",
                "interval": f"{INTERVAL_S}s",
                # The scheme chooses its driver: postgresql:// would be unknown.
                "connections": [_without_tls(setting.dsn).replace("postgresql", "postgres", 1)],
                "queries": [
                    {
                        "name": name,
                        "help": name.replace("_", " "),
                        "labels": [label] if label else [],
                        "values": list(columns),
                        "query": sql.format(operators=setting.operators),
                    }
                    for name, sql, label, columns in FOUR_QUERIES
                ],
            }
        ]
    }
    address = f"127.0.0.1:{setting.port}"
    return Launch(
        (
            *("prometheus-sql-exporter", "-config.file", _write(setting, config)),
            *("-web.listen-address", address),
        )
    )


def _launch_postgres_exporter(setting: Setting) -> Launch:
    """Custom queries alone: its own metrics are other questions, and cost it time."""
    config = {
        name: {
            "query": sql.format(operators=setting.operators),
            "master": True,
            "metrics": [
                *([{label: {"usage": "LABEL", "description": label}}] if label else []),
                *(
                    {column: {"usage": "GAUGE", "description": column.replace("_", " ")}}
                    for column in columns
                ),
            ],
        }
        for name, sql, label, columns in FOUR_QUERIES
    }
    return Launch(
        (
            "prometheus-postgres-exporter",
            *("--extend.query-path", _write(setting, config)),
            *("--web.listen-address", f"127.0.0.1:{setting.port}"),
            *("--disable-default-metrics", "--disable-settings-metrics"),
            *("--no-collector.database", "--no-collector.bgwriter", "--log.level=warn"),
        ),
        (("DATA_SOURCE_NAME", _without_tls(setting.dsn)),),
    )


def _write(setting: Setting, config: dict[str, Any]) -> str:
    """Write a configuration and return its path."""
    path = setting.directory / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


def _without_tls(dsn: str) -> str:
    """Go's lib/pq insists on TLS unless told."""
    return f"{dsn}?sslmode=disable"


def _install_query_exporter(home: Path, note: Callable[[str], None]) -> str:
    """Install query-exporter into an environment of its own; return what went wrong."""
    if (home / "bin/query-exporter").exists():
        return ""
    note(f"Installing query-exporter into {home.name}, once …")
    try:
        venv.create(home, with_pip=True, clear=True)
        done = subprocess.run(
            [str(home / "bin/pip"), "install", "--quiet", *QUERY_EXPORTER_PACKAGES],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"not installed: {error}"
    if done.returncode:
        last = done.stdout.strip().rpartition("\n")[2]
        return f"not installed: {last or 'pip failed'}"
    return ""


def _debian(package: str, asks: str) -> tuple[str, str, str]:
    """Version, when it asks, and what keeps it from being measured."""
    if shutil.which(package) is None:
        return "", asks, f"not installed: apt-get install {package}"
    # Asked of the package, for a program of them does not know its own.
    return _find_version(["dpkg-query", "--show", "--showformat=${Version}", package]), asks, ""


def _find_version(command: Sequence[str]) -> str:
    """The first thing that looks like a version in what a program says."""
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", done.stdout)
        return found[0] if found else ""
    return ""
