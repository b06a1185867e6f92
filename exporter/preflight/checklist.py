"""The checklist of a deployment, and what of it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from exporter.config import Config
from exporter.config.watch import WatchTimes
from exporter.database.session import Session
from exporter.errors import ChatqueueError, DatabaseError
from exporter.ops.report.answers import read_answers
from exporter.ops.rollback.applying import check_plan
from exporter.ops.rollback.script import read_script
from exporter.ops.verify.endpoints import check_endpoint
from exporter.ops.verify.inspection import Inspection, build_inspections, find_contract, inspect
from exporter.preflight.danger import read_rehearsal
from exporter.preflight.pending import SQL
from exporter.text import format_time

State = Literal["done", "open", "failed", "unknown"]
MARKS = {"done": "✓", "open": "·", "failed": "✗", "unknown": "?"}


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the checklist.

    Attributes:
        phase: before, during or after the deployment.
        what: What is to be the case.
        command: What a team types.
        proves: What is known then.
        who: machine, where a command proves it; people, where they alone can say.
        done: What shows that it is done; empty where only people know.
    """

    phase: str
    what: str
    command: str
    proves: str
    who: str
    done: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """What a team has in its hands: files, each None where it was not named."""

    backup: Path | None = None
    reviewed: Path | None = None
    plan: Path | None = None
    rehearsal: Path | None = None
    preflight: Path | None = None
    answers: Path | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a line stands.

    Attributes:
        item: The line.
        state: `unknown` where nothing shows it.
        found: What shows it, in words.
    """

    item: Item
    state: State
    found: str


def read_items() -> tuple[Item, ...]:
    """Return the lines of the checklist in their order."""
    text = files(__package__).joinpath("checklist.yaml").read_text("utf-8")
    return tuple(Item(**entry) for entry in yaml.safe_load(text))


def find_standing(config: Config, database: str, given: Given) -> tuple[Standing, ...]:
    """Return where each line stands; nothing is written.

    Args:
        config: The configuration.
        database: Name in it.
        given: The files to look into.
    """
    section = config.databases[database]
    only = config.model_copy(update={"databases": {database: section}})
    (inspection,) = build_inspections(only)
    dsn = (section.release_dsn or section.dsn).get_secret_value()
    timeout_s = config.poll.connect_timeout.total_seconds()
    with Session(dsn, connect_timeout_s=timeout_s, program="chatqueue-checklist") as session:
        probes = _Probes(config, session, inspection, given)
        return tuple(probes.look(item) for item in read_items())


class _Probes:
    """What shows that a line is done, by the name in `done`."""

    def __init__(
        self, config: Config, session: Session, inspection: Inspection, given: Given
    ) -> None:
        self._config = config
        self._session = session
        self._inspection = inspection
        self._given = given
        self._deployment: Mapping[str, Any] | str | None = None

    def look(self, item: Item) -> Standing:
        """Return where a line stands."""
        if not item.done:
            return Standing(item, "unknown", "only people know")
        try:
            state, found = _PROBES[item.done](self)
        except (ChatqueueError, DatabaseError) as error:
            state, found = "unknown", str(error)
        return Standing(item, state, found)

    def backup(self) -> tuple[State, str]:
        return _exists(self._given.backup, "--backup", "chatqueue preflight reads it")

    def reviewed(self) -> tuple[State, str]:
        return _exists(self._given.reviewed, "--reviewed", "chatqueue preflight compares")

    def plan(self) -> tuple[State, str]:
        file = self._given.plan
        if file is None:
            return "open", "not named: --plan FILE"
        if not file.exists():
            return "open", f"{file} is not there"
        plan, _ = read_script(file.read_text(encoding="utf-8"))
        fit = check_plan(self._session, plan, find_contract(self._inspection))
        return ("done", "it fits") if fit.ok else ("failed", "; ".join(fit.reasons))

    def rehearsal(self) -> tuple[State, str]:
        file = self._given.rehearsal
        if file is None:
            return "open", "not named: --rehearsal FILE"
        if not file.exists():
            return "open", f"{file} is not there"
        rehearsal = read_rehearsal(file)
        failed = [step["name"] for step in rehearsal["steps"] if not step["ok"]]
        if failed:
            return "failed", f"it failed at {', '.join(failed)}"
        return "done", f"all {len(rehearsal['steps'])} steps went well"

    def preflight(self) -> tuple[State, str]:
        file = self._given.preflight
        if file is None:
            return "open", "not named: --preflight FILE, as chatqueue preflight --json prints it"
        try:
            verdict = yaml.safe_load(file.read_text(encoding="utf-8"))["verdict"]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise ChatqueueError(f"--preflight {file}: {type(error).__name__}") from error
        return ("failed" if verdict == "no-go" else "done"), str(verdict)

    def paused(self) -> tuple[State, str]:
        row = self._read()
        if row["paused_until"] is None:
            return "open", "auto-release is not paused"
        return "done", f"until {format_time(row['paused_until'])}"

    def resumed(self) -> tuple[State, str]:
        row = self._read()
        if row["paused_until"] is not None:
            return "open", f"it is paused until {format_time(row['paused_until'])}"
        return "done", "it is not paused"

    def fix(self) -> tuple[State, str]:
        with self._session.reading():
            rows = self._session.rows(find_contract(self._inspection))
        there = sum(bool(row["ok"]) for row in rows)
        found = f"{there} of {len(rows)} objects"
        if there == len(rows):
            return "done", found
        with suppress(ChatqueueError):  # where our schema is not there, nothing is known of that
            if rolled_back := self._read()["rolled_back_at"]:
                found += f"; it was rolled back at {format_time(rolled_back)}"
        return "open", found

    def watch(self) -> tuple[State, str]:
        watch = self._find_watch()
        if watch is None:
            return "open", "no watch was started"
        return "done", f"since {format_time(watch.started_at)}"

    def over(self) -> tuple[State, str]:
        watch, now = self._find_watch(), self._read()["now"]
        if watch is None:
            return "open", "no watch was started"
        if now < watch.ends_at:
            return "open", f"it ends at {format_time(watch.ends_at)}"
        return "done", f"it ended at {format_time(watch.ends_at)}"

    def verify(self) -> tuple[State, str]:
        state, found = self.fix()
        if state != "done":
            return "open", f"the fix is not there: {found}"
        endpoints = self._config.verify.endpoints
        checks = [*inspect(self._inspection), *(check_endpoint(*e) for e in endpoints.items())]
        failed = [check for check in checks if not check.ok]
        if failed:
            return "failed", f"{len(failed)} of {len(checks)} checks: chatqueue verify names them"
        return "done", f"all {len(checks)} checks passed"

    def answers(self) -> tuple[State, str]:
        file = self._given.answers
        if file is None:
            return "open", "not named: --answers FILE"
        if not file.exists():
            return "open", f"{file} is not there"
        answers = read_answers(file)
        left = sum(line.given.answer is None for line in answers.lines)
        state: dict[str, State] = {"signed off": "done", "refused": "failed", "open": "open"}
        return state[answers.state], f"{left} open" if left else answers.state

    def _find_watch(self) -> WatchTimes | None:
        row = self._read()
        started_at: datetime | None = row["started_at"]
        if started_at is None:
            return None
        return WatchTimes(started_at, row["ends_at"], row["rollback_until"])

    def _read(self) -> Mapping[str, Any]:
        """What our own schema says of the deployment; it is read once."""
        if self._deployment is None:
            with self._session.reading():
                (place,) = self._session.rows(SQL["own_schema"])
            if place["version"] is None:
                self._deployment = "the schema chatqueue is not there: chatqueue install --apply"
            else:
                with self._session.reading():
                    (self._deployment,) = self._session.rows(SQL["deployment"])
        if isinstance(self._deployment, str):
            raise ChatqueueError(self._deployment)
        return self._deployment


def _exists(file: Path | None, option: str, then: str) -> tuple[State, str]:
    if file is None:
        return "open", f"not named: {option} FILE"
    return ("done", f"{file}; {then}") if file.exists() else ("open", f"{file} is not there")


_PROBES: Mapping[str, Callable[[_Probes], tuple[State, str]]] = {
    name: getattr(_Probes, name)
    for name in (
        "answers", "backup", "fix", "over", "paused", "plan", "preflight", "rehearsal", "resumed",
        "reviewed", "verify", "watch",
    )
}  # fmt: skip
