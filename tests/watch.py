"""A daemon under test: in this process on a configuration of its own, and ways to ask its page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from exporter.config.resources import find_resource
from exporter.daemon import Daemon

BUILT_IN = tuple(sorted(path.stem for path in find_resource("queries").glob("*.sql")))
DEADLINE_S = 60.0
# What a busy machine may take beyond what is promised; the true figures are those of `make bench`.
SLACK_S = 4.0


class Watch:
    """A running daemon and its page."""

    def __init__(self, daemon: Daemon, config_file: Path) -> None:
        self.daemon = daemon
        self.config_file = config_file

    def page(self) -> str:
        """The page as text."""
        return self.daemon.exposition.page("").body.decode()

    def samples(self, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Every sample of that name whose labels include those given."""
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.page())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample with those labels; None where there is none."""
        found = list(self.samples(name, **labels).values())
        assert len(found) < 2, f"{name}{labels} is ambiguous: {found}"
        return found[0] if found else None

    def errors(self, query: str, reason: str, database: str = "main") -> float:
        """How often a query failed for a reason."""
        name = "chatqueue_exporter_query_errors_total"
        return self.value(name, query=query, reason=reason, database=database) or 0.0

    def wait_until(self, condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> float:
        """Wait for something to come true; return the seconds it took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < deadline_s, self.page()
            time.sleep(0.02)
        return time.monotonic() - started

    def wait_for_poll(self, query: str = "state_clock", database: str = "main") -> None:
        """Wait for a success of a query that began after this call."""
        name = "chatqueue_exporter_query_last_success_timestamp_seconds"
        now_s = time.time()
        self.wait_until(
            lambda: (self.value(name, query=query, database=database) or 0) > now_s + 0.3
        )


def write_config(
    path: Path, databases: Mapping[str, str | Mapping[str, str]], **sections: Any
) -> Path:
    """Write a configuration that polls every second.

    Args:
        path: The file, or the folder for a `chatqueue.yaml`.
        databases: Name to DSN, or to keys of the database.
        sections: Other top-level sections; `overrides` goes below `queries`.
    """
    overrides = {name: {"interval": "1s", "timeout": "1s"} for name in BUILT_IN}
    overrides.update(sections.pop("overrides", {}))
    config: dict[str, Any] = {
        "databases": {
            name: {"dsn": keys} if isinstance(keys, str) else dict(keys)
            for name, keys in databases.items()
        },
        "poll": {"interval": "1s", "timeout": "1s", "connect_timeout": "2s"},
    }
    config.update(sections)
    config["queries"] = {"overrides": overrides, **config.get("queries", {})}
    file = path / "chatqueue.yaml" if path.is_dir() else path
    file.write_text(yaml.safe_dump(config))
    return file


def write_query(
    folder: Path, name: str, sql: str, mapping: Mapping[str, Any] | None = None
) -> Path:
    """Write a query of one's own; it exports `value` as a gauge unless told otherwise."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.sql").write_text(sql)
    metric = {"name": f"own_{name}", "type": "gauge", "help": "A figure.", "value": "value"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"metrics": [metric], **(mapping or {})}))
    return folder


@contextlib.contextmanager
def run_watch(config_file: Path) -> Iterator[Watch]:
    """Run a daemon until its first poll is done and then for the test."""
    daemon = Daemon(config_file)
    daemon.start()
    watch = Watch(daemon, config_file)
    try:
        watch.wait_until(daemon.is_ready)
        yield watch
    finally:
        assert daemon.stop(5), "a poller did not end"
