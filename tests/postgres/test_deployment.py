"""A whole deployment as a team types it: the fix is deployed, watched, judged; or rolled back."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from exporter.cli import cli
from exporter.demo.platform import MIGRATIONS
from exporter.demo.postgres import LocalServer, embedded_bin_dir
from exporter.ops.report.answers import Answer, Answers, fill_in, write_answers
from tests.postgres.test_rollback import definitions
from tests.prometheus_fake import run_fake
from tests.servers import Platform, old_platform
from tests.unit.test_report import all_well
from tests.watch import write_config
from tests.webhooks import OK, Receiver

FILES = sorted(MIGRATIONS.glob("*.sql"))


@pytest.fixture(
    params=[
        pytest.param(2_000, marks=pytest.mark.slow),
        pytest.param(100_000, marks=pytest.mark.long),
    ],
    ids="{:,} chats".format,
)
def before(request: pytest.FixtureRequest, postgres_server: LocalServer) -> Iterator[Platform]:
    """A platform without the fix."""
    with old_platform(postgres_server, request.param) as platform:
        platform.execute("VACUUM ANALYZE")
        yield platform


class Team:
    """A folder with a configuration, and what is typed in it."""

    def __init__(self, folder: Path, platform: Platform, prometheus: str, webhook: str) -> None:
        self.folder = folder
        self.platform = platform
        self.config = write_config(
            folder,
            {"main": platform.dsn},
            prometheus={"url": prometheus},
            notify={"webhooks": {"team": {"url": webhook, "events": ["announcement"]}}},
        )

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> Result:
        """One command; its exit code must be one of these."""
        result = CliRunner(env={"OWNER": self.platform.dsn}).invoke(
            cli, [*words, "--config.file", str(self.config)]
        )
        assert result.exit_code in codes, f"{words}\n{result.output}\n{result.exception!r}"
        return result

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return self.file(name)

    def checklist(self) -> dict[str, str]:
        """Each line of the checklist that something can show, with its state."""
        files = ("backup", "reviewed", "plan", "rehearsal", "preflight", "answers")
        named = [word for f in files for word in (f"--{f}", self.file(f))]
        result = self.run("checklist", "--json", *named, codes=(0, 1, 3))
        return {line["done"]: line["state"] for line in json.loads(result.stdout) if line["done"]}

    def migrate(self) -> None:
        with psycopg.connect(self.platform.dsn) as session:
            for file in FILES:
                session.execute(file.read_bytes())


def fingerprints(platform: Platform) -> dict[tuple[str, str], str]:
    """Every object of the schema public."""
    return {each.key: each.fingerprint for each in definitions(platform)}


def let_hours_pass(platform: Platform, hours: int) -> None:
    """Have the watch begun so much earlier."""
    platform.execute(
        "UPDATE chatqueue.watch AS w SET started_at = w.started_at - h.passed,"
        " ends_at = w.ends_at - h.passed, rollback_until = w.rollback_until - h.passed"
        f" FROM (SELECT interval '{hours} h') AS h (passed)"
    )


def prepare(team: Team) -> None:
    """Everything before the deployment."""
    backup, plan = team.file("backup"), team.file("plan")
    program = embedded_bin_dir() / "pg_dump"
    command = [program, "--format=custom", f"--file={backup}", team.platform.dsn]
    subprocess.run(command, check=True)
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in FILES)
    team.write("reviewed", "".join(sums))
    team.run("install", "--apply")
    team.run("rollback", "--plan", "--output", plan)
    rehearsed = team.run(
        *("rehearse", "--backup", backup, "--migrations", str(MIGRATIONS)),
        *("--people", "1", "--json"),
    )
    team.write("rehearsal", rehearsed.stdout)
    checked = team.run(
        *("preflight", "--backup", backup, "--migrations", str(MIGRATIONS), "--json"),
        *("--reviewed", team.file("reviewed"), "--rehearsal", team.file("rehearsal")),
        *("--max-lock", "1m"),
    )
    team.write("preflight", checked.stdout)
    hurried = team.run(
        *("preflight", "--migrations", str(MIGRATIONS), "--json", "--max-lock", "1ms"),
        *("--rehearsal", team.file("rehearsal")),
        codes=(1,),
    )
    lines = {line["name"]: line for line in json.loads(hurried.stdout)["lines"]}
    long = lines["locks of 014_chat_states.sql"]
    assert long["verdict"] == "no-go"
    assert any("public.chats is locked against" in each for each in long["details"])
    assert "(line 3, ALTER TABLE public.chats" in " ".join(long["details"])
    verdicts = {line["verdict"] for line in json.loads(checked.stdout)["lines"]}
    assert verdicts <= {"go", "unknown"}
    team.run("announce", "planned", "--window", "Tuesday 06:00 UTC")


def deploy(team: Team) -> None:
    """The deployment itself."""
    team.migrate()
    team.run("watch", "start")
    team.run("verify")
    team.run("verify", "--flow", "--dsn-from", "OWNER")
    team.run("announce", "done")


def test_the_fix_is_deployed_watched_judged_and_signed_off(
    before: Platform, tmp_path: Path
) -> None:
    with run_fake(all_well) as prometheus, Receiver(OK) as webhook:
        team = Team(tmp_path, before, prometheus.url, webhook.url)
        assert "done" not in team.checklist().values()
        prepare(team)
        ready = team.checklist()
        early = ("backup", "reviewed", "plan", "rehearsal", "preflight")
        assert {ready[name] for name in early} == {"done"}
        assert (ready["fix"], ready["watch"]) == ("open", "open")
        deploy(team)
        deployed = team.checklist()
        assert (deployed["fix"], deployed["watch"], deployed["verify"]) == ("done",) * 3
        assert (deployed["over"], deployed["answers"]) == ("open", "open")

        # A day later, by the watch's own times.
        let_hours_pass(before, 25)
        began = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
        judged = team.run("report", "--started-at", began, "--format", "json")
        assert json.loads(judged.stdout)["verdict"] == "pass"
        given = Answers()
        for line in given.lines:
            yes = Answer(answer="yes", by="on call", at=datetime.now(UTC))
            given = fill_in(given, line, yes)
        write_answers(tmp_path / "answers", given)
        signed = team.run("report", "--started-at", began, "--answers", team.file("answers"))
        assert "## For people to judge: signed off" in signed.stdout
        # Auto-release is not in use here, so it was not paused.
        left = {name: state for name, state in team.checklist().items() if state != "done"}
        assert left == {"paused": "open"}
        kinds = [each.document["fields"]["kind"] for each in webhook.received]
        assert kinds == ["planned", "done"]


def test_the_fix_is_rolled_back_at_hour_two(before: Platform, tmp_path: Path) -> None:
    with run_fake(all_well) as prometheus, Receiver(OK) as webhook:
        team = Team(tmp_path, before, prometheus.url, webhook.url)
        was = fingerprints(before)
        prepare(team)
        deploy(team)
        let_hours_pass(before, 2)
        team.run("rollback", "--check", team.file("plan"))
        name = before.value("SELECT current_database()")
        team.run(
            *("rollback", "--apply", team.file("plan"), "--yes", str(name), "--dsn-from", "OWNER"),
        )
        team.run("watch", "stop")
        team.run("announce", "rolled-back", "--message", "We try again tomorrow.")

        now = fingerprints(before)
        assert {key: now.get(key) for key in was} == was
        assert {kind for kind, _ in now.keys() - was.keys()} <= {"column", "constraint"}
        standing = team.checklist()
        assert (standing["fix"], standing["over"]) == ("open", "done")
        assert webhook.received[-1].document["fields"]["kind"] == "rolled-back"
