"""A demo scenario in compressed time: a real PostgreSQL, the daemon's own poller and page.

The database's clock is simulated: a `now()` of our own stands before PostgreSQL's in the search
path and reads a row, so that the platform's defaults, triggers and functions and the exporter's
queries all live by it. The daemon's worker polls on the same clock, its page is rendered as for a
scrape, and each page becomes one sample a series: what a Prometheus with a scrape interval of 15 s
would have stored. promtool then evaluates the real rules over it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import yaml

from exporter.config import load_config
from exporter.demo.platform import install_platform
from exporter.demo.postgres import LocalServer
from exporter.demo.simulation import Simulation
from exporter.logs.watch import LogWatch
from exporter.metrics.exposition import Exposition, Source, own_families
from exporter.metrics.snapshot import Family
from exporter.polling.plan import build_plans
from exporter.polling.worker import Worker
from exporter.release.plans import build_release_plans
from exporter.release.releaser import Releaser
from tests.prometheus.promtool import used_by_rules
from tests.prometheus.recording import SCRAPE_S, Recording
from tests.servers import crash, find_bin_dir, memory_directory

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
"""When every play begins, on the database's clock."""

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
        poll_s: Time between two polls of everything; each query's own interval where None. Between
            them nothing on the page changes.
        names: Metrics to record.
        truths: Name to a statement that says when it is true in the database itself.
    """

    def __init__(
        self,
        server: LocalServer,
        folder: Path,
        scenario: str,
        scrape_s: int = SCRAPE_S,
        operators: int = 12,
        history_s: int = 7200,
        poll_s: int | None = None,
        names: Collection[str] | None = None,
        truths: Mapping[str, str] = TRUTHS,
    ) -> None:
        self._server, self._folder, self._poll_s = server, folder, poll_s
        self._names = used_by_rules() if names is None else names
        self._truths = truths
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
        self._build_daemon()
        self._due = {query.name: 0.0 for query in self.worker._plan.queries}
        self.recording = Recording(scenario, scrape_s)

    @property
    def now(self) -> datetime:
        """The time on the database's clock."""
        return BEGUN + timedelta(seconds=self._now_s)

    def restart_daemon(self) -> None:
        """Let another process go on with the same configuration; its counters begin at 0."""
        self._end_daemon()
        self._build_daemon()
        self._due = dict.fromkeys(self._due, 0.0)

    def ask(self, statement: str) -> Any:
        """Return the one value that a statement gives."""
        (value,) = self._clock.execute(statement).fetchone() or (None,)
        return value

    def families(self) -> tuple[Family, ...]:
        """What the daemon knows of its one database, and of its log."""
        return (*self.worker.snapshot.families(self._now_s), *self._logs.families())

    def _build_daemon(self) -> None:
        file, log = self._folder / "chatqueue.yaml", self._folder / "platform.log"
        log.touch()
        document = {
            "databases": {"demo": {"dsn": self._server.dsn()}},
            "logs": {"files": {"platform": str(log)}},
        }
        file.write_text(yaml.safe_dump(document))
        config = load_config(file)
        self.worker = Worker(
            build_plans(config)["demo"],
            lambda: None,
            monotonic=lambda: self._now_s,
            wall=lambda: self._now_s,
        )
        self._logs = LogWatch(config.logs, lambda: None, lambda: self._now_s)
        self._logs.start()
        releaser = Releaser(build_release_plans(config)["demo"], daemon="play")
        own = own_families(reload_success=True, reload_success_time_s=0.0)
        self._exposition = Exposition(
            lambda: Source(
                (self.worker.snapshot,),
                (*own, *self._logs.families()),
                ((releaser.labels, releaser.families),),
            ),
            monotonic=lambda: self._now_s,
        )

    def _end_daemon(self) -> None:
        self.worker._connection.close()
        self._logs.stop(5)

    def close(self) -> None:
        """Close every connection."""
        self.simulation.close()
        self._clock.close()
        self._end_daemon()

    def run(self, length_s: float, look: Callable[[], object] = lambda: None) -> Recording:
        """Live that long from now on, scraped all the while; `look` is called at each scrape."""
        end_s = self._now_s + length_s
        while self._now_s <= end_s:
            if self._poll_s and self._now_s % self._poll_s:
                self.recording.repeat()
            else:
                self._poll()
                self._exposition.publish()
                self.recording.scrape(self._exposition.page("").body.decode(), self._names)
            self._note_truths()
            look()
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
            crash(self._server)
            self._drops += 1
            if self._drops == 3:
                self.recording.truths[LOST] = self._now_s
        elif not self._server.running and wanted:
            self._server.start()
            self._clock = psycopg.connect(self._server.dsn(), autocommit=True)
            self._tick(self._now_s)

    def _poll(self) -> None:
        """What the worker's thread does when it wakes: ask what is due."""
        worker = self.worker
        if worker._outage.pause_s():
            return
        due = {query.name: self._poll_s or query.interval_s for query in worker._plan.queries}
        if worker._outage.is_on:
            self._due = dict.fromkeys(self._due, 0.0)
        names = frozenset(name for name, at_s in self._due.items() if at_s <= self._now_s)
        self._due |= {name: self._now_s + due[name] for name in names}
        worker._poll(names)

    def _note_truths(self) -> None:
        """Look into the database itself."""
        if not self._server.running:
            return
        for name, statement in self._truths.items():
            if name not in self.recording.truths and self.ask(statement):
                self.recording.truths[name] = self._now_s


@contextmanager
def play(folder: Path, scenario: str, **options: Any) -> Iterator[Play]:
    """A scenario on a server of its own, ready to run."""
    with LocalServer(find_bin_dir("pg18"), parent=memory_directory()) as server:
        staged = Play(server, folder, scenario, **options)
        try:
            yield staged
        finally:
            staged.close()
