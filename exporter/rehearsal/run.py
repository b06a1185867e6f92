"""The rehearsal itself: restore, deploy, verify, let people work, roll back, deploy again."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.config import Config
from exporter.database.session import Session
from exporter.demo.simulation import Simulation
from exporter.errors import ChatqueueError, QueryFailed
from exporter.ops.rollback.applying import apply_script
from exporter.ops.rollback.definitions import (
    Definition,
    Difference,
    Place,
    compare,
    read_definitions,
    read_place,
)
from exporter.ops.rollback.plan import Plan, make_plan
from exporter.ops.rollback.script import build_script, read_script
from exporter.ops.verify.checks import Check
from exporter.ops.verify.flow import Flow
from exporter.ops.verify.inspection import build_inspections, find_contract, inspect
from exporter.rehearsal.backup import restore
from exporter.rehearsal.migrations import PROGRAM, SQL, apply_migration
from exporter.rehearsal.programs import Installation, run_program
from exporter.rehearsal.report import Report, Step
from exporter.rehearsal.scratch import Scratch

_TABLES = ("chats", "operators", "messages", "chat_assignments", "operator_activity")
_OLD_FLOW_WORKS = "a chat was assigned, and released"
# What a copy without rows says.
_UNTRIED = ("no operator to try it with", "no chat waits")
_WATCH_S = 5.0
# Of a copy that was just made: rights and clocks are not production's.
_FOREIGN_GROUPS = ("rights", "server")


class _Failed(Exception):
    """A step did not go as it should; the rest would prove nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to rehearse.

    Attributes:
        config: As production has it.
        database: Name in it.
        production_dsn: Of a role that reads; for a schema-only dump one that may lock the tables.
        backup: What to restore; None for a dump of production's schema without rows.
        migrations: Files, in their order.
        drop_columns: Whether the rollback drops the fix's columns.
        people_s: How long the simulated people work.
    """

    config: Config
    database: str
    production_dsn: str
    backup: Path | None
    migrations: tuple[Path, ...]
    drop_columns: bool
    people_s: float


@dataclass(frozen=True, slots=True)
class Production:
    """What is read from production, once and read-only.

    Attributes:
        place: Which server and database.
        rows: Table to estimated rows.
        definitions: What stands in the schema public.
    """

    place: Place
    rows: dict[str, int]
    definitions: tuple[Definition, ...]


def read_production(dsn: str, connect_timeout_s: float) -> Production:
    """Read what the rehearsal compares with.

    Raises:
        DatabaseError: It cannot be read.
    """
    with Session(dsn, connect_timeout_s=connect_timeout_s, program=PROGRAM) as session:
        place = read_place(session)
        with session.reading():
            rows = {row["name"]: int(row["rows"]) for row in session.rows(SQL["estimates"])}
        return Production(place, rows, read_definitions(session))


def dump_schema(dsn: str, tools: Installation, version: int, folder: Path) -> Path:
    """Dump production's schema without rows, read-only.

    Raises:
        ProgramFailed: pg_dump is too old, or may not read it.
    """
    if tools.version < version:
        raise ChatqueueError(
            f"pg_dump {tools.version} cannot dump PostgreSQL {version}: install the client "
            f"programs of version {version} or later"
        )
    dump = folder / "schema.dump"
    run_program(
        tools.bin_dir / "pg_dump",
        *("--schema-only", "--format=custom", f"--file={dump}", "--lock-wait-timeout=5s"),
        dsn=dsn,
        folder=folder,
    )
    return dump


class Rehearsal:
    """One rehearsal on a scratch database.

    Args:
        request: What to rehearse.
        production: As it was read.
        scratch: Where.
        tools: The client programs.
        report: Is filled step by step, so that what was done is known if it is interrupted.
        on_step: Called with each step's name before it, and how many are behind it.
    """

    def __init__(
        self,
        request: Request,
        production: Production,
        scratch: Scratch,
        tools: Installation,
        report: Report,
        on_step: Callable[[str, int], None] = lambda _name, _number: None,
    ) -> None:
        self._request = request
        self._production = production
        self._scratch = scratch
        self._tools = tools
        self._report = report
        self._on_step = on_step
        section = request.config.databases[request.database]
        dsn = type(section.dsn)(scratch.dsn)
        copy = section.model_copy(update={"dsn": dsn, "release_dsn": None})
        config = request.config.model_copy(update={"databases": {request.database: copy}})
        (self._inspection,) = build_inspections(config)
        self._contract = find_contract(self._inspection)

    @staticmethod
    def count_steps(request: Request) -> int:
        """Return how many steps there will be."""
        return 9 + 2 * len(request.migrations)

    def run(self) -> None:
        """Play all steps, up to the first that fails."""
        with contextlib.suppress(_Failed):
            self._restore()
            before, old_flow = self._read_copy()
            plan = self._plan()
            self._migrate("migration", keep=True)
            fixed = self._definitions()
            self._verify("verify")
            self._flow()
            self._people()
            self._roll_back(plan, before)
            self._try_old_flow("old assignment works again", old_flow)
            self._migrate("again", keep=False)
            self._verify("verify again", compared=compare(fixed, self._definitions()))

    # The steps.

    def _restore(self) -> None:
        with self._step("restore") as done:
            backup = self._request.backup or dump_schema(
                self._request.production_dsn,
                self._tools,
                self._production.place.version_num // 10_000,
                self._scratch.folder,
            )
            restored = restore(backup, self._scratch.dsn, self._tools.bin_dir, self._scratch.folder)
            # As in production, the planner knows the tables.
            run_program(
                self._tools.bin_dir / "psql",
                *("-X", "-q", "--command=ANALYZE"),
                dsn=self._scratch.dsn,
                folder=self._scratch.folder,
                name="analyze",
            )
            self._count_rows()
            rows = sum(here for here, _ in self._report.rows.values())
            done(f"{rows:,} rows in {len(self._report.rows)} tables", restored.errors)
            missing = [name for name in _TABLES if name not in self._report.rows]
            if missing:
                raise _Failed(f"the copy lacks {', '.join(missing)}")

    def _read_copy(self) -> tuple[tuple[Definition, ...], str]:
        """The copy as it is before the fix, beside production; and how the old flow goes."""
        with self._step("compare with production") as done:
            here = self._definitions()
            wrong = [str(each) for each in compare(self._production.definitions, here)]
            wanted = [each for each in wrong if not each.startswith(("table", "column"))]
            done("the same" if not wanted else f"{len(wanted)} objects differ", wanted)
            return here, self._play_old_flow()

    def _plan(self) -> Plan:
        with self._step("plan the rollback") as done, self._session() as session:
            plan = make_plan(session, self._contract, drop_columns=self._request.drop_columns)
            done(f"{len(plan.items)} objects", ())
            return plan

    def _migrate(self, name: str, *, keep: bool) -> None:
        for file in self._request.migrations:
            with self._step(f"{name} {file.name}") as done:
                applied = apply_migration(
                    file, self._scratch.dsn, self._tools.bin_dir, self._scratch.folder
                )
                if keep:
                    self._report.migrations.append(applied)
                done("applied", ())

    def _verify(self, name: str, compared: Sequence[Difference] = ()) -> None:
        with self._step(name) as done:
            checks = self._check()
            differing = [f"{each} by the second deployment" for each in compared]
            done(*_judge(checks))
            if differing:
                done("not the same as after the first deployment", differing)
            if differing or not all(check.ok for check in checks):
                raise _Failed

    def _flow(self) -> None:
        with self._step("verify --flow") as done, self._session() as session:
            checks = Flow(session).play().checks
            done(*_judge(checks))
            if not all(check.ok for check in checks):
                raise _Failed

    def _people(self) -> None:
        if not self._request.people_s:
            return
        with self._step("people at work") as done:
            before = self._count_work()
            simulation = Simulation(self._scratch.dsn)
            simulation.join()
            stop = threading.Event()
            thread = threading.Thread(target=simulation.run, args=(stop,), daemon=True)
            thread.start()
            failed: dict[str, None] = {}
            looks = 0
            ends_at = time.monotonic() + self._request.people_s
            try:
                while (left_s := ends_at - time.monotonic()) > 0:
                    stop.wait(min(_WATCH_S, left_s))
                    looks += 1
                    failed |= dict.fromkeys(_describe(c) for c in self._check() if not c.ok)
            finally:
                stop.set()
                thread.join(10)
            assigned, replies = (b - a for a, b in zip(before, self._count_work(), strict=True))
            done(f"{assigned} assignments, {replies} messages, {looks} looks", tuple(failed))
            if failed:
                raise _Failed

    def _roll_back(self, plan: Plan, before: Sequence[Definition]) -> None:
        with self._step("roll back") as done:
            _, body = read_script(build_script(plan, self._contract))
            with self._session() as session:
                apply_script(session, body, "rehearsal")
            left = compare(before, self._definitions())
            strange = [each for each in left if not _is_kept(each, plan)]
            kept = f", {len(left)} objects of kept columns" if left and not strange else ""
            done(f"as before{kept}", [f"{each} by the rollback" for each in strange])
            if strange:
                raise _Failed

    def _try_old_flow(self, name: str, before: str) -> None:
        with self._step(name) as done:
            now = self._play_old_flow()
            works = now in (before, _OLD_FLOW_WORKS) or before in _UNTRIED
            done(now, () if works else (f"before the fix: {before}",))
            if not works:
                raise _Failed

    # What they share.

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[Callable[[str, Sequence[str]], None]]:
        """Time a step and note its outcome, given by calling what this yields."""
        self._on_step(name, len(self._report.steps))
        outcome: list[tuple[str, Sequence[str]]] = [("", ())]
        started = time.monotonic()
        error: Exception | None = None
        try:
            yield lambda found, details: outcome.append((found, details))
        except (ChatqueueError, _Failed) as caught:
            error = caught
        found, details = outcome[-1]
        if error is not None and str(error):
            found, details = "failed", (str(error), *details)
        took_s = time.monotonic() - started
        self._report.steps.append(Step(name, error is None, took_s, found, tuple(details)))
        if error is not None:
            raise _Failed from error

    def _session(self) -> Session:
        return Session(self._scratch.dsn, program=PROGRAM)

    def _definitions(self) -> tuple[Definition, ...]:
        with self._session() as session:
            return read_definitions(session)

    def _check(self) -> list[Check]:
        return [c for c in inspect(self._inspection) if c.group not in _FOREIGN_GROUPS]

    def _count_rows(self) -> None:
        """Count every table of the copy, beside production's estimates."""
        with self._session() as session:
            session.begin(read_only=True, statement_timeout_s=3600)
            for row in session.rows(SQL["estimates"]):
                name = row["name"]
                quoted = '"' + name.replace('"', '""') + '"'
                statement = f"SELECT count(*) AS rows FROM public.{quoted}"  # noqa: S608 - quoted
                (count,) = session.rows(statement)
                self._report.rows[name] = (count["rows"], self._production.rows.get(name))
            session.rollback()

    def _count_work(self) -> tuple[int, int]:
        with self._session() as session, session.reading(60):
            (row,) = session.rows(
                "SELECT (SELECT count(*) FROM public.chat_assignments) AS assignments,"
                " (SELECT count(*) FROM public.messages) AS messages"
            )
        return row["assignments"], row["messages"]

    def _play_old_flow(self) -> str:
        """Assign and release a chat by the platform's functions, undone; the outcome in words."""
        with self._session() as session:
            session.begin(statement_timeout_s=600)
            try:
                return _assign_and_release(session)
            except QueryFailed as error:
                return str(error).partition("; chatqueue grants")[0]
            finally:
                session.rollback()


def _assign_and_release(session: Session) -> str:
    session.rows(SQL["old_free"])
    operators = session.rows(SQL["old_operator"])
    if not operators:
        return _UNTRIED[0]
    operator = operators[0]["operator"]
    (row,) = session.rows(
        "SELECT public.assign_chat_to_operator(%(operator)s) AS chat", {"operator": operator}
    )
    chat = row["chat"]
    if chat is None:
        return _UNTRIED[1]
    (row,) = session.rows(SQL["old_holder"], {"chat": chat})
    if row["operator"] != operator:
        return "a chat was not assigned"
    session.rows("SELECT public.release_and_reassign_chat(%(chat)s, 'rehearsal')", {"chat": chat})
    (row,) = session.rows(SQL["old_holder"], {"chat": chat})
    return _OLD_FLOW_WORKS if row["operator"] is None else "a chat was not released"


def _is_kept(difference: Difference, plan: Plan) -> bool:
    """Whether a difference is a column that the plan keeps, or a constraint on one."""
    kinds = ("column", "constraint")
    return not plan.drop_columns and difference.change == "added" and difference.kind in kinds


def _judge(checks: Sequence[Check]) -> tuple[str, tuple[str, ...]]:
    failed = tuple(_describe(check) for check in checks if not check.ok)
    if failed:
        return f"{len(failed)} of {len(checks)} checks failed", failed
    return f"all {len(checks)} checks passed", ()


def _describe(check: Check) -> str:
    return f"{check.group} {check.name}: {check.found}"
