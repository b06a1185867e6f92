"""The running whole: workers, releasers, notices, the page, and what a reload does to them."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from exporter import __version__
from exporter.config import Config, load_config
from exporter.database import check_dsn
from exporter.database.session import Session
from exporter.digests.scheduler import DigestScheduler
from exporter.errors import ChatqueueError, DatabaseError
from exporter.logs.receiver import Receiver
from exporter.logs.watch import LogWatch
from exporter.metrics.exposition import Exposition, Source, own_families
from exporter.metrics.figures import Reading, read_figures
from exporter.notify.notifier import WebhookNotifier
from exporter.polling.plan import build_plans
from exporter.polling.worker import Plan, Worker
from exporter.release import admin
from exporter.release.plans import ReleasePlan, build_release_plans
from exporter.release.releaser import Releaser

log = structlog.get_logger("chatqueue.daemon")


class Daemon:
    """Watches every database of one configuration file.

    Args:
        config_file: Read now and at every reload.

    Attributes:
        exposition: The page.
        notifier: Tells people by the webhooks of the configuration.
        reload_hooks: Called at a reload, before anything is switched.

    Raises:
        ConfigError: The configuration cannot be used.
        CatalogueError: A query's files cannot be used.
    """

    def __init__(self, config_file: Path) -> None:
        self._config_file = config_file
        self._releasers: dict[str, Releaser] = {}
        self._config, plans = self._load()
        self.notifier = WebhookNotifier(self._config.notify.webhooks)
        self._loaded_at_s = time.time()
        self._load_succeeded = True
        self._reload_lock = threading.Lock()
        self.exposition = Exposition(self._source)
        self.logs = LogWatch(self._config.logs, self.exposition.publish)
        self._workers = {name: self._new_worker(plan) for name, plan in plans.items()}
        self._releasers = {
            name: self._new_releaser(plan)
            for name, plan in build_release_plans(self._config).items()
        }
        self._teller = DigestScheduler(self._config.watch, self._read_figures, self.notifier)
        self.reload_hooks: list[Callable[[], None]] = []

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def workers(self) -> tuple[Worker, ...]:
        """One a database."""
        return tuple(self._workers.values())

    @property
    def releasers(self) -> tuple[Releaser, ...]:
        """One a database, whatever its mode."""
        return tuple(self._releasers.values())

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
        every: tuple[Worker | Releaser, ...] = (*self.workers, *self.releasers)
        for each in every:
            each.start()
        self.logs.start()
        self._teller.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop polling, in mid-query too; return whether every worker has ended in time.

        What was committed meanwhile is still told, within half of that time.
        """
        deadline = time.monotonic() + timeout_s
        every: tuple[Worker | Releaser, ...] = (*self.releasers, *self.workers)
        for each in every:
            each.ask_to_stop()
        self.logs.ask_to_stop()
        self._teller.stop(timeout_s / 4)
        ended = [each.stop(max(0.0, deadline - time.monotonic())) for each in every]
        ended.append(self.logs.stop(max(0.0, deadline - time.monotonic())))
        self.notifier.stop(max(0.0, min(deadline - time.monotonic(), timeout_s / 2)))
        return all(ended)

    def is_healthy(self) -> tuple[str, ...]:
        """Return the databases whose poller no longer turns, and `logs`; none means healthy."""
        every: tuple[Worker | Releaser, ...] = (*self.workers, *self.releasers)
        stuck = [each.database for each in every if not each.is_alive()]
        return tuple(dict.fromkeys([*stuck, *([] if self.logs.is_alive() else ["logs"])]))

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
                releases = build_release_plans(config)
                _require_schemas(releases)
                # Certificates and users first: what can still be refused comes before the switch.
                for hook in self.reload_hooks:
                    hook()
            except ChatqueueError as error:
                self._load_succeeded = False
                self.exposition.publish()
                log.error("reload failed", file=str(self._config_file), error=str(error))
                raise
            self.notifier.apply(config.notify.webhooks)
            self._switch(plans)
            self._switch_releasers(releases)
            self.logs.apply(config.logs)
            self._teller.apply(config.watch)
            self._config, self._load_succeeded = config, True
            self._loaded_at_s = time.time()
            self.exposition.publish()
            log.info("configuration reloaded", file=str(self._config_file), databases=len(plans))

    def _load(self) -> tuple[Config, dict[str, Plan]]:
        """The configuration on disk and what it asks for."""
        config = load_config(self._config_file, os.environ, check_dsn)
        return config, build_plans(config)

    def _switch(self, plans: dict[str, Plan]) -> None:
        """Hand every worker its new plan; start those that are new, stop those that are gone."""
        workers = {}
        started = []
        for name, plan in plans.items():
            worker = self._workers.get(name)
            if worker is None:
                worker = self._new_worker(plan)
                started.append(worker)
            else:
                worker.apply(plan)
            workers[name] = worker
        gone = [worker for name, worker in self._workers.items() if name not in plans]
        self._workers = workers
        for worker in started:
            worker.start()
        for worker in gone:
            worker.ask_to_stop()

    def _switch_releasers(self, plans: dict[str, ReleasePlan]) -> None:
        """The same for the releasers."""
        old, self._releasers = self._releasers, {}
        for name, plan in plans.items():
            if name in old:
                old[name].apply(plan)
                self._releasers[name] = old[name]
            else:
                self._releasers[name] = releaser = self._new_releaser(plan)
                releaser.start()
        for name, releaser in old.items():
            if name not in plans:
                releaser.ask_to_stop()

    def _new_releaser(self, plan: ReleasePlan) -> Releaser:
        """A releaser that renders the page when it has decided something."""
        daemon = f"chatqueue-exporter {__version__} {socket.gethostname()} {os.getpid()}"
        return Releaser(
            plan, daemon=daemon, notifier=self.notifier, on_change=self.exposition.publish
        )

    def _new_worker(self, plan: Plan) -> Worker:
        """A worker that renders the page when it knows more."""
        return Worker(plan, self.exposition.publish)

    def _read_figures(self) -> dict[str, Reading]:
        """What a digest tells of each database; empty before all were polled once."""
        if not self.is_ready():
            return {}
        now, logs = time.monotonic(), self.logs.families()
        return {
            worker.database: read_figures((*worker.snapshot.families(now), *logs))
            for worker in self.workers
        }

    def _source(self) -> Source:
        """What a page is made of."""
        watch = self._config.watch
        own = own_families(
            reload_success=self._load_succeeded,
            reload_success_time_s=self._loaded_at_s,
            watch=[moment.timestamp() for moment in (watch.started_at, watch.ends_at) if moment],
        )
        releases = tuple((releaser.labels, releaser.families) for releaser in self.releasers)
        snapshots = tuple(worker.snapshot for worker in self.workers)
        own = (*own, *self.notifier.families, *self.logs.families())
        return Source(snapshots, own, releases)


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
