"""The running whole: its periodic threads, the page, and what a reload does to them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from exporter import __version__
from exporter.config import Config, load_config
from exporter.config.shard import Shard
from exporter.config.watch import Watch
from exporter.database import check_dsn
from exporter.database.session import Session
from exporter.digests.announcements import Verdict
from exporter.digests.scheduler import DigestScheduler
from exporter.errors import ChatqueueError, DatabaseError
from exporter.logs.receiver import Receiver
from exporter.logs.watch import LogWatch
from exporter.metrics.exposition import Exposition, Source, own_families
from exporter.metrics.figures import Reading, read_figures
from exporter.metrics.keeper import HistoryKeeper, HistoryPlan
from exporter.notify.notifier import WebhookNotifier
from exporter.polling.plan import Plan, build_plans
from exporter.polling.worker import Worker
from exporter.release import admin
from exporter.release.families import build_mode_family
from exporter.release.plans import ReleasePlan, build_release_plans
from exporter.release.releaser import Releaser
from exporter.threads import PeriodicThread, switch_threads

log = structlog.get_logger("chatqueue.daemon")

_RELEASES_OFF = (build_mode_family("off"),)


class Daemon:
    """Watches every database of one configuration file.

    A worker per database, a releaser where releases are not off, the log watch and the digests are
    its services: each is a `PeriodicThread` with a plan that a reload replaces.

    Args:
        config_file: Read now and at every reload.
        shard: Leaves the databases of other shards out.

    Attributes:
        exposition: The page.
        history: The values of the last 24 h.
        logs: What follows the platform's logs.
        notifier: Sends notices to the webhooks of the configuration.
        reload_hooks: Called at a reload, before anything is switched.

    Raises:
        ConfigError: The configuration cannot be used.
        CatalogueError: A query's files cannot be used.
    """

    def __init__(self, config_file: Path, shard: Shard | None = None) -> None:
        self._config_file = config_file
        self._shard = shard
        self._config, plans = self._load()
        self.notifier = WebhookNotifier(self._config.notify.webhooks)
        self._loaded_at_s = time.time()
        self._load_succeeded = True
        self._reload_lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._watch_seen = self._config.watch
        self.exposition = Exposition(self._source)
        self.logs = LogWatch(self._config.logs, self.exposition.publish)
        self.history = HistoryKeeper(plans["history"], self._read_polled)
        self._services: dict[str, PeriodicThread[Any]] = {
            "logs": self.logs,
            "page": self.exposition,
            "history": self.history,
        }
        self._switch(plans)
        self.reload_hooks: list[Callable[[], None]] = []

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def watch(self) -> Watch:
        """The watch in force: of those started by command the latest, else the configured one."""
        started = [worker.watch for worker in self.workers if worker.watch is not None]
        latest = max(started, key=lambda times: times.started_at, default=None)
        watch = self._config.watch
        return watch if latest is None else watch.at_times(latest)

    @property
    def is_config_current(self) -> bool:
        """Whether the latest load of the configuration succeeded."""
        return self._load_succeeded

    @property
    def workers(self) -> tuple[Worker, ...]:
        """One per database."""
        return tuple(s for s in self._services.values() if isinstance(s, Worker))

    @property
    def releasers(self) -> tuple[Releaser, ...]:
        """One per database; none where releases are off."""
        return tuple(s for s in self._services.values() if isinstance(s, Releaser))

    @property
    def digests(self) -> DigestScheduler:
        """What sends the digests of the watch."""
        (scheduler,) = (s for s in self._services.values() if isinstance(s, DigestScheduler))
        return scheduler

    @property
    def receiver(self) -> Receiver:
        """Takes log lines over HTTP."""
        return self.logs.receiver

    def start(self) -> None:
        """Begin to poll every database.

        Raises:
            SchemaMissing: Releases are to be enforced where our schema is not installed.
        """
        _require_schemas(build_release_plans(self._config))
        self._start_services()

    def stop(self, timeout_s: float) -> bool:
        """Stop polling, in mid-query too; return whether every service has ended in time.

        What was committed meanwhile is still delivered, within half of that time.
        """
        deadline = time.monotonic() + timeout_s
        services = tuple(self._services.values())
        for service in services:
            service.request_stop()
        ended = [service.stop(max(0.0, deadline - time.monotonic())) for service in services]
        self.notifier.stop(max(0.0, min(deadline - time.monotonic(), timeout_s / 2)))
        return all(ended)

    def is_healthy(self) -> tuple[str, ...]:
        """Return the databases and services whose thread is stalled; none is healthy."""
        stalled = [s.name for s in self._services.values() if not s.is_alive()]
        return tuple(dict.fromkeys(stalled))

    def describe(self) -> str:
        """Return how the daemon is, in one line."""
        workers = self.workers
        up = sum(worker.snapshot.up for worker in workers)
        words = f"{up} of {len(workers)} databases answer"
        if stalled := self.is_healthy():
            words += f"; stalled: {', '.join(stalled)}"
        return words if self._load_succeeded else f"{words}; the configuration was refused"

    def is_ready(self) -> bool:
        """Return whether every database was polled once, with or without success."""
        return all(worker.first_poll_done.is_set() for worker in self.workers)

    def reload(self) -> None:
        """Read the configuration again and put it into force, or change nothing at all.

        Raises:
            ChatqueueError: What is wrong with the new files; the old ones go on.
        """
        with self._reload_lock:
            try:
                config, plans = self._load()
                _require_schemas(build_release_plans(config))
                # Certificates and users first: what can still be refused comes before the switch.
                for hook in self.reload_hooks:
                    hook()
            except ChatqueueError as error:
                self._load_succeeded = False
                self.exposition.refresh()
                log.error("reload failed", file=str(self._config_file), error=str(error))
                raise
            self.notifier.apply(config.notify.webhooks)
            self._switch(plans)
            self._start_services()
            self._config, self._load_succeeded = config, True
            with self._watch_lock:
                self._watch_seen = self.watch
                self.digests.apply(self._watch_seen)
            self._loaded_at_s = time.time()
            self.exposition.refresh()
            log.info(
                "configuration reloaded",
                file=str(self._config_file),
                databases=len(config.databases),
            )

    def _load(self) -> tuple[Config, dict[str, Any]]:
        """The configuration on disk, and the plan of each service, by the service's key."""
        config = load_config(self._config_file, os.environ, check_dsn, self._shard)
        workers, releasers = build_plans(config), build_release_plans(config)
        return config, {
            **{f"poller {name}": plan for name, plan in workers.items()},
            **{
                f"releaser {name}": plan
                for name, plan in releasers.items()
                if plan.limits.mode != "off"
            },
            "logs": config.logs,
            "page": None,
            "history": _plan_history(config),
            "digests": config.watch,
        }

    def _switch(self, plans: Mapping[str, Any]) -> None:
        """Hand every service its plan; a new one is not started yet."""
        self._services = switch_threads(self._services, plans, self._create)

    def _start_services(self) -> None:
        for service in self._services.values():
            service.start()

    def _create(self, _: str, plan: Any) -> PeriodicThread[Any]:
        """The service for a plan; what it finds goes to the page."""
        publish = self.exposition.publish
        if isinstance(plan, Plan):
            worker = Worker(plan, lambda: self._on_poll(worker))
            return worker
        if isinstance(plan, ReleasePlan):
            daemon = f"chatqueue-exporter {__version__} {socket.gethostname()} {os.getpid()}"
            return Releaser(plan, daemon=daemon, notifier=self.notifier, on_change=publish)
        return DigestScheduler(plan, self._read_figures, self.notifier, judge=self._judge)

    def _on_poll(self, worker: Worker) -> None:
        """Have the page rendered; a loss between two minutes is recorded at once."""
        self.exposition.publish()
        if not worker.snapshot.up:
            self.history.wake()
        with self._watch_lock:
            watch = self.watch
            if watch != self._watch_seen:
                self._watch_seen = watch
                self.digests.apply(watch)

    def _read_figures(self) -> dict[str, Reading]:
        """What a digest says of each database; empty before all were polled once."""
        return self._read_polled() if self.is_ready() else {}

    def _judge(self, watch: Watch, at: datetime) -> Verdict:
        """What the report says of the watch at a time."""
        # A daemon whose watch has not come so far does not carry the report.
        from exporter.ops.report.verdict import judge_so_far  # noqa: PLC0415

        return judge_so_far(self._config, watch, at)

    def _read_polled(self) -> dict[str, Reading]:
        """The values of each database that was polled once."""
        now, logs = time.monotonic(), self.logs.families()
        return {
            worker.name: read_figures((*worker.snapshot.families(now), *logs))
            for worker in self.workers
            if worker.first_poll_done.is_set()
        }

    def _source(self) -> Source:
        """What a page is made of."""
        watch = self.watch
        times = (watch.started_at, watch.ends_at, watch.rollback_until)
        own = own_families(
            reload_success=self._load_succeeded,
            reload_success_time_s=self._loaded_at_s,
            watch=[at.timestamp() for at in times if at],
        )
        snapshots = tuple(worker.snapshot for worker in self.workers)
        releases = tuple((releaser.labels, releaser.families) for releaser in self.releasers)
        if not releases:
            releases = tuple((snapshot.all_labels, _RELEASES_OFF) for snapshot in snapshots)
        own = (*own, *self.notifier.families, *self.logs.families())
        return Source(snapshots, own, releases)


def _plan_history(config: Config) -> HistoryPlan:
    """The history lies beside the state of the watch."""
    state = config.watch.digests.state_file
    file = None if state is None else state.with_name(f"{state.name}.history")
    return HistoryPlan(frozenset(config.databases), file)


def _require_schemas(plans: dict[str, ReleasePlan]) -> None:
    """Refuse to enforce without our schema; a database that does not answer is judged later."""
    for name, plan in plans.items():
        if plan.limits.mode != "enforce":
            continue
        try:
            with Session(plan.dsn, connect_timeout_s=plan.connect_timeout_s) as session:
                admin.require_schema(session)
        except admin.SchemaMissing as error:
            raise admin.SchemaMissing(
                f"database {name}: release.mode is enforce, but {error}"
            ) from None
        except DatabaseError as error:
            log.warning("schema chatqueue not checked", database=name, error=str(error))
