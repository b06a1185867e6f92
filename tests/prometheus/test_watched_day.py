"""A whole watch in compressed time: digests to a webhook, and the report from a real Prometheus."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli.report import report as command
from exporter.config.watch import Watch
from exporter.digests.schedule import digest_times
from exporter.digests.scheduler import DigestScheduler
from exporter.metrics.figures import Reading, read_figures
from exporter.notify.notifier import WebhookNotifier
from tests.day import BEGUN, DATABASE, HOURS, Day, run_recorded
from tests.webhooks import Receiver, make_webhook

TROUBLE = range(660, 700)
RESTART = 390
CALM, TROUBLED = Day((RESTART,)), Day((RESTART,), trouble=TROUBLE)
NUMBER_OF_DIGESTS = 4 + HOURS - 1


class Player:
    """Lives through a day's watch, minute by minute, with a restart in it."""

    def __init__(self, day: Day, watch: Watch, notifier: WebhookNotifier) -> None:
        self._day, self._watch, self._notifier = day, watch, notifier
        self._now = BEGUN
        self._scheduler = self._begin()

    def play(self) -> None:
        """Run whenever the scheduler says so, until the watch is over."""
        while (wait_s := self._scheduler._run_once()) is not None:
            before, self._now = self._now, self._now + timedelta(seconds=wait_s)
            restart = BEGUN + timedelta(minutes=RESTART)
            if before < restart <= self._now:
                self._scheduler = self._begin()

    def _begin(self) -> DigestScheduler:
        return DigestScheduler(self._watch, self._read, self._notifier, lambda: self._now)

    def _read(self) -> dict[str, Reading]:
        minute = int((self._now - BEGUN) / timedelta(minutes=1))
        return {DATABASE: read_figures(self._day.families(minute))}


def collect_digests(day: Day, folder: Path) -> list[dict[str, Any]]:
    """The digests of a day, as a webhook got them."""
    state_file = folder / "state.json"
    watch = Watch.model_validate({"started_at": BEGUN, "digests": {"state_file": state_file}})
    with Receiver() as receiver:
        notifier = WebhookNotifier({"ops": make_webhook(receiver.url, events=["digest"])})
        Player(day, watch, notifier).play()
        notifier.stop(20)
        received = [each.document for each in receiver.received]
    times = [datetime.fromisoformat(document["fields"]["moment"]) for document in received]
    assert times == list(digest_times(watch))
    return received


def test_a_calm_watch_has_its_digests_on_time_over_a_restart(tmp_path: Path) -> None:
    digests = collect_digests(CALM, tmp_path)

    assert len(digests) == NUMBER_OF_DIGESTS
    assert {digest["title"].rpartition(", ")[2] for digest in digests} == {"calm"}
    assert digests[0]["title"] == "main: 15m of 1d watched, calm"
    assert digests[-1]["title"] == "main: the watch is over, calm"
    # The counter began anew at the restart; of the sum only that minute's two are missing.
    assigned = [digest["fields"]["now"]["assignments"] for digest in digests]
    assert assigned[:6] == [30, 60, 90, 120, 240, 360]
    assert assigned[-1] == 2 * HOURS * 60 - 2


def test_trouble_is_in_the_digests_that_see_it(tmp_path: Path) -> None:
    digests = collect_digests(TROUBLED, tmp_path)
    loud = {
        digest["fields"]["moment"][11:16]: digest["fields"]["reason"]
        for digest in digests
        if digest["fields"]["reason"]
    }

    # 11 h and 11 h 40 after 08:00; the chats are well again by 20:00, the repeats stay counted.
    assert loud == {
        "19:00": "2 chats in an invalid state (lost_reply 2)",
        "20:00": "4 new avoidable repeats",
    }


@pytest.fixture(scope="module", params=["calm", "troubled", "dark", "unlimited"])
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A kind of day and a configuration whose Prometheus has seen it."""
    days = {
        "calm": CALM,
        "troubled": TROUBLED,
        "dark": Day((RESTART,), dark=range(600, 720)),
        "unlimited": Day((RESTART,), limit_s=math.inf),
    }
    folder = tmp_path_factory.mktemp(request.param)
    with run_recorded(days[request.param].write, folder) as url:
        config = folder / "chatqueue.yaml"
        document = {
            "databases": {DATABASE: {"dsn": "host=db"}},
            "watch": {"started_at": BEGUN.isoformat()},
            "prometheus": {"url": url},
        }
        config.write_text(yaml.safe_dump(document))
        yield request.param, config


def judge(config: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a report."""
    result = CliRunner().invoke(
        command, ["--config.file", str(config), "--format", "json", *arguments]
    )
    assert result.exit_code in (0, 1, 3), result.output
    return result.exit_code, json.loads(result.output)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {criterion["key"]: criterion["verdict"] for criterion in document["criteria"]}


def evidence(document: dict[str, Any], verdict: str) -> list[str]:
    """What the checks with that verdict found."""
    return [
        check["evidence"]
        for criterion in document["criteria"]
        for check in criterion["checks"]
        if check["verdict"] == verdict
    ]


def hour(number: float) -> str:
    return (BEGUN + timedelta(hours=number)).isoformat()


def test_the_report_fails_what_failed_and_passes_the_rest(recorded: tuple[str, Path]) -> None:
    kind, config = recorded
    code, document = judge(config)
    every = ("repeats", "states", "queue", "idle", "errors")

    if kind == "calm":
        assert (code, document["verdict"]) == (0, "pass")
        assert verdicts(document) == dict.fromkeys(every, "pass")
        assert document["advice"]["course"] == "too late"
    elif kind == "troubled":
        assert code == 1
        failed = {"repeats": "fail", "states": "fail"}
        assert verdicts(document) == dict.fromkeys(every, "pass") | failed
        assert evidence(document, "fail") == [
            "4, good is at most 0",
            "2 (lost_reply 2), good is at most 0",
        ]
    elif kind == "unlimited":
        # A threshold that is off proves nothing.
        assert code == 3
        off = {"states": "unknown", "queue": "unknown"}
        assert verdicts(document) == dict.fromkeys(every, "pass") | off
        assert set(evidence(document, "unknown")) == {"not to be judged: the threshold is off"}
    else:
        # Two hours of 24 were not seen: nothing is bad, and nothing is proved.
        assert code == 3
        assert verdicts(document) == dict.fromkeys(every, "unknown")
        assert all("of the time was seen" in each for each in evidence(document, "unknown"))


def test_before_its_trouble_a_watch_passes_and_during_it_a_rollback_is_advised(
    recorded: tuple[str, Path],
) -> None:
    kind, config = recorded
    before = judge(config, "--at", hour(9))
    # The same trouble seen as that of a watch that began ten hours later, against the same day.
    during = judge(config, "--started-at", hour(10), "--at", hour(11.5))

    assert before[0] == (3 if kind == "unlimited" else 0)
    if kind == "calm":
        assert during[1]["advice"]["course"] == "keep"
        assert during[0] == 0
    elif kind == "troubled":
        assert during[0] == 1
        advice = during[1]["advice"]
        assert advice["course"] == "roll back"
        assert advice["summary"].startswith("Roll back, or know why not: 2h30m are left")
        assert len(advice["reasons"]) == 2
    else:
        assert during[0] == 3
        assert during[1]["advice"]["course"] == "look closer"


def test_a_watch_nobody_saw_is_unknown(recorded: tuple[str, Path]) -> None:
    code, document = judge(recorded[1], "--started-at", "2020-01-01T00:00:00Z")

    assert code == 3
    assert set(verdicts(document).values()) == {"unknown"}
    assert all(each.startswith("no data: ") for each in evidence(document, "unknown"))


def test_the_page_draws_what_prometheus_stored(recorded: tuple[str, Path]) -> None:
    kind, config = recorded
    page = config.with_name("report.html")
    arguments = ["--config.file", str(config), "--format", "html", "--output", str(page)]
    CliRunner().invoke(command, arguments)
    plots = page.read_text().split("<svg")[1:]

    assert plots
    for plot in plots:
        root = ElementTree.fromstring("<svg" + plot.partition("</svg>")[0] + "</svg>")
        lines = [each for each in root.iter() if each.get("class") == "line"]
        assert len(lines) == (2 if kind == "dark" else 1)
