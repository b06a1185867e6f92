"""Three days of the demo's people in compressed time: a day before, a calm watch, a troubled one.

A real PostgreSQL, the daemon's own worker with a restart in each watch, digests to a webhook, and
the report from a real Prometheus that has scraped it all. What must come out is asked of the
database's rows. It takes minutes: `make watched-days` runs it, and CI only `test_watched_day.py`,
whose days are imagined.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli.report import report as command
from exporter.config.watch import Watch
from exporter.demo.scenarios import SCENARIOS
from exporter.digests.schedule import digest_times
from exporter.digests.scheduler import DigestScheduler
from exporter.metrics.figures import Reading, read_figures
from exporter.notify.notifier import WebhookNotifier
from exporter.ops.report.criteria import CRITERIA
from tests.day import run_recorded
from tests.prometheus.playing import BEGUN, Play, play
from tests.webhooks import Receiver, make_webhook

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SCRAPE_S, POLL_S = 60, 300
HOUR_S, DAY_S = 3600, 86_400
RESTART_AT_S = 6.5 * HOUR_S
TROUBLE_AT_S, TROUBLE_S = 11 * HOUR_S, HOUR_S
DATABASE = "demo"
# Few people make a day short to play; now and then one leaves, for the idle detector to be seen.
CALM = replace(SCENARIOS["calm"].rhythm, chats_per_minute=0.2, look_s=(30, 60), vanishes=0.01)
# More users than before, so that somebody waits when an operator gets the same chat again.
TROUBLE = replace(CALM, chats_per_minute=2.0, same_chat_first=True, loses_return=0.35)
NAMES = {
    name
    for criterion in CRITERIA
    for check in criterion.checks
    for name in re.findall(r"chatqueue_\w+", f"{check.figure.metric} {check.value} {check.limit}")
}
# An admin's reassignment copies the row it ends; the copy is no assignment.
ASSIGNED = """
    SELECT count(*) FROM chat_assignments AS a
    WHERE a.assigned_at > '{since}' AND a.assigned_at <= '{until}'
    AND coalesce(a.release_reason NOT LIKE 'manual_reassignment_by_admin%', true)
"""
# What the team does when it is over: nothing on the platform finds a lost reply by itself.
REPAIR = """
    WITH repaired AS (
        UPDATE chats SET chat_state = 'waiting_assignment'
        WHERE is_active AND chat_state = 'waiting_real_user_reply'
          AND last_message_at > operator_replied_at
        RETURNING id)
    SELECT count(*) FROM repaired
"""
REPEATED = (
    ASSIGNED
    + """
    AND a.operator_id = (
        SELECT p.operator_id FROM chat_assignments AS p
        WHERE p.chat_id = a.chat_id AND p.assigned_at < a.assigned_at
        ORDER BY p.assigned_at DESC LIMIT 1)
"""
)


@dataclass
class Watched:
    """A watch of the play, its daemon restarted once.

    Attributes:
        begun: When.
        digests: As the webhook got them.
        assigned: Chats that were assigned meanwhile, by the database's rows.
        unseen: Those of them between the last poll before the restart and the first one after.
        repeats: Times that an operator got the same chat again while there was trouble, whoever
            waited.
    """

    begun: datetime
    digests: list[dict[str, Any]] = field(default_factory=list)
    assigned: int = 0
    unseen: int = 0
    repeats: int = 0

    def times(self) -> list[datetime]:
        """When digests came."""
        return [datetime.fromisoformat(each["fields"]["moment"]) for each in self.digests]


class Daemon:
    """The part of the daemon that tells, on the play's clock."""

    def __init__(self, staged: Play, watch: Watch, notifier: WebhookNotifier) -> None:
        self._staged, self._watch, self._notifier = staged, watch, notifier
        self._scheduler = self._begin()
        self._next: datetime | None = staged.now

    def look(self) -> None:
        """Run when the scheduler wants to."""
        if self._next is not None and self._staged.now >= self._next:
            wait_s = self._scheduler._run_once()
            self._next = None if wait_s is None else self._staged.now + timedelta(seconds=wait_s)

    def restart(self) -> None:
        """Begin anew."""
        self._staged.restart_daemon()
        self._scheduler = self._begin()

    def _begin(self) -> DigestScheduler:
        return DigestScheduler(self._watch, self._read, self._notifier, lambda: self._staged.now)

    def _read(self) -> dict[str, Reading]:
        return {DATABASE: read_figures(self._staged.families())}


def watch_a_day(staged: Play, folder: Path, *, is_troubled: bool) -> Watched:
    """Play one watch from now on."""
    watched = Watched(staged.now)
    file = folder / f"{staged.now:%d}.json"
    watch = Watch.model_validate({"started_at": staged.now, "digests": {"state_file": file}})
    world = staged.simulation.world
    with Receiver() as receiver:
        notifier = WebhookNotifier({"ops": make_webhook(receiver.url, events=["digest"])})
        daemon = Daemon(staged, watch, notifier)
        staged.run(RESTART_AT_S - SCRAPE_S, daemon.look)
        daemon.restart()
        staged.run(TROUBLE_AT_S - RESTART_AT_S - SCRAPE_S, daemon.look)
        world.change_rhythm(TROUBLE if is_troubled else CALM)
        staged.run(TROUBLE_S - SCRAPE_S, daemon.look)
        world.change_rhythm(CALM)
        staged.ask(REPAIR)
        staged.run(DAY_S - TROUBLE_AT_S - TROUBLE_S, daemon.look)
        notifier.stop(20)
        watched.digests = [each.document for each in receiver.received]
    assert watched.times() == list(digest_times(watch))

    def count(statement: str, since_s: float, until_s: float) -> int:
        since, until = (watched.begun + timedelta(seconds=each) for each in (since_s, until_s))
        return int(staged.ask(statement.format(since=since, until=until)))

    watched.assigned = count(ASSIGNED, 0, DAY_S)
    watched.unseen = count(ASSIGNED, RESTART_AT_S - POLL_S, RESTART_AT_S)
    watched.repeats = count(REPEATED, TROUBLE_AT_S, TROUBLE_AT_S + TROUBLE_S)
    return watched


@dataclass
class Watches:
    """Both watches, and a configuration whose Prometheus has scraped them."""

    calm: Watched
    troubled: Watched
    config: Path

    def judge(self, begun: datetime, after_s: float = DAY_S) -> tuple[int, dict[str, Any]]:
        """Exit code and JSON of a report so long after the beginning of a watch."""
        arguments = ["--started-at", begun.isoformat()]
        arguments += ["--at", (begun + timedelta(seconds=after_s)).isoformat()]
        result = CliRunner().invoke(
            command, ["--config.file", str(self.config), "--format", "json", *arguments]
        )
        assert result.exit_code in (0, 1, 3), result.output
        return result.exit_code, json.loads(result.output)


@pytest.fixture(scope="module")
def watches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watches]:
    folder = tmp_path_factory.mktemp("watch")
    options = {"scrape_s": SCRAPE_S, "poll_s": POLL_S, "operators": 3, "history_s": 60}
    with play(folder, "calm", names=NAMES, truths={}, **options) as staged:
        staged.simulation.world.change_rhythm(CALM)
        staged.run(DAY_S - SCRAPE_S)
        calm = watch_a_day(staged, folder, is_troubled=False)
        # A watch that begins with a poll has fresh figures whenever it tells.
        staged.run(POLL_S - 2 * SCRAPE_S)
        troubled = watch_a_day(staged, folder, is_troubled=True)
        recording = staged.recording
    with run_recorded(lambda file: recording.write(file, BEGUN.timestamp()), folder) as url:
        config = folder / "report.yaml"
        document = {"databases": {DATABASE: {"dsn": "host=db"}}, "prometheus": {"url": url}}
        config.write_text(yaml.safe_dump(document))
        yield Watches(calm, troubled, config)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    """What became of each criterion."""
    return {criterion["key"]: criterion["verdict"] for criterion in document["criteria"]}


def test_a_calm_watch_has_its_digests_on_time_and_passes(watches: Watches) -> None:
    watched = watches.calm
    code, document = watches.judge(watched.begun)

    assert {each["title"].rpartition(", ")[2] for each in watched.digests} == {"calm"}
    sent = watched.digests[-1]["fields"]["now"]["assignments"]
    assert sent == watched.assigned - watched.unseen
    assert set(verdicts(document).values()) == {"pass"}, document
    assert code == 0


def test_trouble_is_in_the_digests_when_it_comes_and_fails_what_it_broke(watches: Watches) -> None:
    watched = watches.troubled
    code, document = watches.judge(watched.begun)
    loud = {
        (datetime.fromisoformat(each["fields"]["moment"]) - watched.begun) / timedelta(hours=1)
        for each in watched.digests
        if each["fields"]["reason"]
    }
    (repeats,) = (
        check["value"]
        for criterion in document["criteria"]
        for check in criterion["checks"]
        if check["asks"] == "avoidable repeats since the watch began"
    )

    assert TROUBLE_AT_S / HOUR_S + 1 in loud
    assert all(TROUBLE_AT_S / HOUR_S < each <= TROUBLE_AT_S / HOUR_S + 2 for each in loud), loud
    assert code == 1
    failed = {key for key, verdict in verdicts(document).items() if verdict == "fail"}
    assert {"repeats", "states"} <= failed <= {"repeats", "states", "queue"}, document
    assert 0 < repeats <= watched.repeats


def test_before_its_trouble_a_watch_passes_and_in_it_a_rollback_is_advised(
    watches: Watches,
) -> None:
    begun = watches.troubled.begun
    before = watches.judge(begun, TROUBLE_AT_S - HOUR_S)
    # The same trouble as that of a watch that began an hour before it.
    during = watches.judge(begun + timedelta(seconds=TROUBLE_AT_S - HOUR_S), 2 * HOUR_S)

    assert before[0] == 0, before[1]
    assert during[0] == 1
    assert during[1]["advice"]["course"] == "roll back"
