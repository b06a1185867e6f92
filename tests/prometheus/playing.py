"""A demo scenario in compressed time: a real PostgreSQL, the daemon's own poller and page.

The database's clock is simulated: a `now()` of our own stands before PostgreSQL's in the search
path and reads a row, so that the platform's defaults, triggers and functions and the exporter's
queries all live by it. The daemon's worker polls on the same clock, its page is rendered as for a
scrape, and each page becomes one sample a series: what a Prometheus with a scrape interval of 15 s
would have stored. promtool then evaluates the real rules over it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import yaml

from exporter.config import load_config
from exporter.demo.platform import install_platform
from exporter.demo.postgres import LocalServer
from exporter.demo.simulation import Simulation
from exporter.exposition import Exposition, Source, own_families
from exporter.planning import build_plans, build_release_plans
from exporter.poller import Worker
from exporter.release.releaser import Releaser
from tests.prometheus.promtool import run_tests, used_by_rules
from tests.servers import find_bin_dir, memory_directory

SCRAPE_S = 15
JOB, INSTANCE = "chatqueue", "watch:10847"
_LABEL = re.compile(r'(\w+)=\\?"([^"\\]*)\\?"')
_SAMPLE = re.compile(r"\{([^}]*)\} ([-+.\dE]+)")
_CLOCK = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.moment (at timestamptz NOT NULL);
    INSERT INTO clock.moment VALUES ('2026-01-01 00:00:00Z');
    GRANT USAGE ON SCHEMA clock TO public;
    GRANT SELECT ON clock.moment TO public;
    CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT at FROM clock.moment';
    ALTER DATABASE postgres SET search_path = clock, public, pg_catalog;
"""
_TICK = (
    "UPDATE clock.moment SET at = timestamptz '2026-01-01 00:00:00Z' + make_interval(secs => %s)"
)


@dataclass
class Recording:
    """What Prometheus would have stored of one play.

    Attributes:
        scenario: Its name.
        scrape_s: Time between two scrapes.
        scrapes: How many.
        series: Name and labels to one value a scrape; None where it was not on the page.
        truths: What was first seen to be true in the database itself: name to second.
    """

    scenario: str
    scrape_s: int = SCRAPE_S
    scrapes: int = 0
    series: dict[str, list[float | None]] = field(default_factory=dict)
    truths: dict[str, float] = field(default_factory=dict)

    def scrape(self, page: str, wanted: Iterable[str]) -> None:
        """Store a page."""
        names = frozenset(wanted)
        for line in page.splitlines():
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            if name in names:
                key = f'{name}{{{labels.rstrip("}")}{"," if labels else ""}job="{JOB}",'
                key += f'instance="{INSTANCE}"}}'
                values = self.series.setdefault(key, [None] * self.scrapes)
                values.append(float(value))
        self.series.setdefault(f'up{{job="{JOB}",instance="{INSTANCE}"}}', []).append(1.0)
        self.scrapes += 1
        for values in self.series.values():
            values.extend([None] * (self.scrapes - len(values)))

    def firing(self, folder: Path) -> dict[tuple[str, str], float]:
        """Evaluate the real rules; return alert and severity to the second it first fires at."""
        end_s = (self.scrapes - 1) * self.scrape_s
        asked = (
            f'min_over_time(timestamp(ALERTS{{alertstate="firing"}})[{end_s}s:{self.scrape_s}s])'
        )
        answer = ask_promtool(folder, self, asked, end_s)
        first: dict[tuple[str, str], float] = {}
        for labels, value in answer:
            key = labels["alertname"], labels["severity"]
            first[key] = min(value, first.get(key, math.inf))
        return first

    def input_series(self) -> list[dict[str, str]]:
        """The series as promtool reads them; one that leaves the page goes stale."""
        return [
            {"series": name, "values": " ".join(_notation(values))}
            for name, values in self.series.items()
        ]


def _notation(values: Iterable[float | None]) -> Iterator[str]:
    """A sample each: a value, `stale` where it left the page, `_` while it is gone."""
    before: float | None = None
    for value in values:
        if value is None:
            yield "_" if before is None else "stale"
        else:
            # promtool 2.42 knows no exponent in a number.
            yield "+Inf" if value == math.inf else f"{value:.9f}".rstrip("0").rstrip(".")
        before = value


def ask_promtool(
    folder: Path, recording: Recording, expression: str, at_s: float
) -> list[tuple[dict[str, str], float]]:
    """Evaluate an expression after all rules.

    promtool has no command for that: its complaint that nothing was expected is the answer.
    """
    complaint = run_tests(
        folder,
        {
            "play": {
                "interval": f"{recording.scrape_s}s",
                "input_series": recording.input_series(),
                "promql_expr_test": [
                    {"expr": expression, "eval_time": f"{at_s:.0f}s", "exp_samples": []}
                ],
            }
        },
        interval_s=recording.scrape_s,
    )
    got = complaint.partition("got:")[2]
    assert got, complaint
    return [(dict(_LABEL.findall(labels)), float(value)) for labels, value in _SAMPLE.findall(got)]


# What is true in the database, asked of its rows and not of the exporter.
TRUTHS = {
    "a chat has waited 5m in the queue": """
        SELECT EXISTS (
            SELECT FROM chats AS c WHERE c.chat_state = 'waiting_assignment' AND c.is_active
            AND greatest(
                (SELECT max(released_at) FROM chat_assignments AS a WHERE a.chat_id = c.id),
                (SELECT min(created_at) FROM messages AS m WHERE m.chat_id = c.id
                 AND m.sender_type = 'real' AND m.created_at > coalesce(
                    (SELECT max(created_at) FROM messages AS f WHERE f.chat_id = c.id
                     AND f.sender_type = 'fictional'), '-infinity'))
            ) < now() - interval '5 minutes'
        )
    """,
    "a chat has been assigned for 20m": """
        SELECT EXISTS (SELECT FROM chats WHERE chat_state = 'assigned' AND is_active
                       AND assignment_time < now() - interval '20 minutes')
    """,
    "an assigned chat had no heartbeat for 7m": """
        SELECT EXISTS (
            SELECT FROM chats AS c JOIN operator_activity AS a
            ON a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
            WHERE c.chat_state = 'assigned' AND c.is_active
            AND a.updated_at < now() - interval '7 minutes'
        )
    """,
    "an operator got their last chat while another waited": """
        SELECT EXISTS (
            SELECT FROM chat_assignments AS a
            WHERE a.assigned_at > timestamptz '2026-01-01 00:00:00Z'
            AND a.operator_id = (
                SELECT p.operator_id FROM chat_assignments AS p
                WHERE p.chat_id = a.chat_id AND p.assigned_at < a.assigned_at
                ORDER BY p.assigned_at DESC LIMIT 1)
            AND EXISTS (
                SELECT FROM chats AS c WHERE c.created_at < a.assigned_at AND NOT EXISTS (
                    SELECT FROM chat_assignments AS o
                    WHERE o.chat_id = c.id AND o.assigned_at <= a.assigned_at))
        )
    """,
    "a chat has had no known state for 30s": """
        SELECT EXISTS (SELECT FROM chats WHERE is_active AND chat_state IS NULL
                       AND updated_at < now() - interval '30 seconds')
    """,
    "a user's message has been lost for 30s": """
        SELECT EXISTS (
            SELECT FROM chats AS c WHERE c.chat_state = 'waiting_real_user_reply' AND c.is_active
            AND (SELECT m.sender_type = 'real' AND m.created_at < now() - interval '30 seconds'
                 FROM messages AS m WHERE m.chat_id = c.id ORDER BY m.created_at DESC LIMIT 1)
        )
    """,
}
LOST = "the database was lost for the third time"


class Play:
    """One scenario on one server, its daemon beside it.

    Args:
        server: An empty server of the play's own.
        folder: For the configuration.
        scenario: Name.
        scrape_s: Time between two scrapes.
        operators: How many work.
        history_s: How long they have worked before.
    """

    def __init__(
        self,
        server: LocalServer,
        folder: Path,
        scenario: str,
        scrape_s: int = SCRAPE_S,
        operators: int = 12,
        history_s: int = 7200,
    ) -> None:
        self._server = server
        self._now_s = 0.0
        self._drops = 0
        with psycopg.connect(server.dsn(), autocommit=True) as owner:
            owner.execute(_CLOCK)
        install_platform(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as owner:
            # The one function with a search path of its own.
            owner.execute(
                "ALTER FUNCTION public.assign_chat_to_operator(uuid)"
                " SET search_path = clock, public, pg_catalog"
            )
        self._clock = psycopg.connect(server.dsn(), autocommit=True)
        self.simulation = Simulation(server.dsn(), scenario=scenario, operators=operators)
        self.simulation.seed_history(history_s / 3600)
        self._offset_s = self.simulation.world.now
        self._worker, self._exposition = self._build_daemon(folder)
        self._due = {query.name: 0.0 for query in self._worker._plan.queries}
        self.recording = Recording(scenario, scrape_s)

    def _build_daemon(self, folder: Path) -> tuple[Worker, Exposition]:
        file = folder / "chatqueue.yaml"
        file.write_text(yaml.safe_dump({"databases": {"demo": {"dsn": self._server.dsn()}}}))
        config = load_config(file)
        worker = Worker(
            build_plans(config)["demo"],
            lambda: None,
            monotonic=lambda: self._now_s,
            wall=lambda: self._now_s,
        )
        releaser = Releaser(build_release_plans(config)["demo"], daemon="play")
        own = own_families(reload_success=True, reload_success_time_s=0.0)
        releases = ((releaser.labels, releaser.families),)
        exposition = Exposition(
            lambda: Source((worker.snapshot,), own, releases), monotonic=lambda: self._now_s
        )
        return worker, exposition

    def close(self) -> None:
        """Close every connection."""
        self.simulation.close()
        self._clock.close()
        self._worker._connection.close()

    def run(self, length_s: float) -> Recording:
        """Live that long from now on, scraped all the while."""
        end_s = self._now_s + length_s
        names = used_by_rules()
        while self._now_s <= end_s:
            self._poll()
            self._exposition.publish()
            self.recording.scrape(self._exposition.page("").body.decode(), names)
            self._note_truths()
            # In steps in which the database may come and go.
            for _ in range(3):
                self._live(self.recording.scrape_s / 3)
                self._switch()
        return self.recording

    def _live(self, length_s: float) -> None:
        """Let everybody act for a while; while the database is away nobody's time passes."""
        self._now_s += length_s
        world = self.simulation.world
        if not self._server.running:
            self._offset_s -= length_s
            return
        until = self._now_s + self._offset_s
        while world.next_at <= until:
            self._tick(world.next_at - self._offset_s)
            self.simulation.step(world.next_at)
        self.simulation.step(until)
        self._tick(self._now_s)

    def _tick(self, now_s: float) -> None:
        """Set the database's clock."""
        self._clock.execute(_TICK, (now_s,))

    def _switch(self) -> None:
        """Take the database away or bring it back, by the scenario's rhythm."""
        rhythm = self.simulation.scenario.database_down
        if rhythm is None:
            return
        wanted = self._now_s % (rhythm.up_s + rhythm.down_s) < rhythm.up_s
        if self._server.running and not wanted:
            self.simulation.close()
            self._clock.close()
            self._server.stop("immediate")
            self._drops += 1
            if self._drops == 3:
                self.recording.truths[LOST] = self._now_s
        elif not self._server.running and wanted:
            self._server.start()
            self._clock = psycopg.connect(self._server.dsn(), autocommit=True)
            self._tick(self._now_s)

    def _poll(self) -> None:
        """What the worker's thread does when it wakes: ask what is due."""
        worker = self._worker
        if self._now_s < worker._retry_at:
            return
        due = {query.name: query.interval_s for query in worker._plan.queries}
        if worker._failures:
            self._due = dict.fromkeys(self._due, 0.0)
        names = frozenset(name for name, at_s in self._due.items() if at_s <= self._now_s)
        self._due |= {name: self._now_s + due[name] for name in names}
        worker._poll(names)

    def _note_truths(self) -> None:
        """Look into the database itself."""
        if not self._server.running:
            return
        for name, statement in TRUTHS.items():
            if name not in self.recording.truths:
                row = self._clock.execute(statement).fetchone()
                if row and row[0]:
                    self.recording.truths[name] = self._now_s


@contextmanager
def play(folder: Path, scenario: str, **options: int) -> Iterator[Play]:
    """A scenario on a server of its own, ready to run."""
    with LocalServer(find_bin_dir("pg18"), parent=memory_directory()) as server:
        staged = Play(server, folder, scenario, **options)
        try:
            yield staged
        finally:
            staged.close()
