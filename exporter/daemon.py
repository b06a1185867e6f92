"""The running whole: workers, the page and the routes, and what a reload does to them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from exporter.config import Config, load_config
from exporter.database import check_dsn
from exporter.errors import ChatqueueError
from exporter.exposition import Exposition, Source, own_families
from exporter.planning import build_plans
from exporter.poller import Plan, Worker

log = structlog.get_logger("chatqueue.daemon")


class Daemon:
    """Watches every database of one configuration file.

    Args:
        config_file: Read now and at every reload.

    Raises:
        ConfigError: The configuration cannot be used.
        CatalogueError: A query's files cannot be used.
    """

    def __init__(self, config_file: Path) -> None:
        self._config_file = config_file
        self._config, plans = self._load()
        self._loaded_at_s = time.time()
        self._load_succeeded = True
        self._reload_lock = threading.Lock()
        self.exposition = Exposition(self._source)
        self._workers = {name: self._new_worker(plan) for name, plan in plans.items()}
        self.reload_hooks: list[Callable[[], None]] = []

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._config

    @property
    def workers(self) -> tuple[Worker, ...]:
        """One a database."""
        return tuple(self._workers.values())

    def start(self) -> None:
        """Begin to poll every database."""
        for worker in self.workers:
            worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop polling, in mid-query too; return whether every worker has ended in time."""
        deadline = time.monotonic() + timeout_s
        for worker in self.workers:
            worker.ask_to_stop()
        ended = [w.stop(max(0.0, deadline - time.monotonic())) for w in self.workers]
        return all(ended)

    def is_healthy(self) -> tuple[str, ...]:
        """Return the databases whose poller no longer turns; none means healthy."""
        return tuple(worker.database for worker in self.workers if not worker.is_turning())

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
                # Certificates and users first: what can still be refused comes before the switch.
                for hook in self.reload_hooks:
                    hook()
            except ChatqueueError as error:
                self._load_succeeded = False
                self.exposition.publish()
                log.error("reload failed", file=str(self._config_file), error=str(error))
                raise
            self._switch(plans)
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

    def _new_worker(self, plan: Plan) -> Worker:
        """A worker that renders the page when it knows more."""
        return Worker(plan, self.exposition.publish)

    def _source(self) -> Source:
        """What a page is made of."""
        own = own_families(
            reload_success=self._load_succeeded, reload_success_time_s=self._loaded_at_s
        )
        return Source(tuple(worker.snapshot for worker in self.workers), own)
