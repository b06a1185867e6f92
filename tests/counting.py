"""The worker of one database, polled by hand: the daemon's own code without its thread or clock.

`Watcher` is what the tests of events share: plan, connection, counters and snapshot are the
daemon's; the test says when to poll, and what goes wrong meanwhile.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from exporter.catalogue import Query
from exporter.config import Config
from exporter.metrics.snapshot import merge_families
from exporter.polling.plan import Plan, build_plans
from exporter.polling.worker import Worker
from tests.servers import Platform

EVENT_QUERIES = ("assignments", "messages", "releases", "waits")


def make_plan(platform: Platform, queries: Iterable[str], **sections: Any) -> Plan:
    """Plan to ask these queries of the built-in catalogue, configured by the sections."""
    plan = replace(_load_plan(json.dumps(sections)), dsn=platform.dsn)
    wanted = set(queries)
    chosen = tuple(query for query in plan.queries if query.name in wanted)
    assert {query.name for query in chosen} == wanted
    return replace(plan, queries=chosen)


@functools.cache
def _load_plan(sections: str) -> Plan:
    """The plan of a configuration, its database yet to be named; reading it takes its time."""
    databases = {"main": {"dsn": "host=/nowhere"}}
    config = Config.model_validate({"databases": databases, **json.loads(sections)})
    return build_plans(config)["main"]


class Watcher:
    """Polls a platform when told to.

    Args:
        platform: The database.
        queries: Names of built-in queries.
        parameters: Values that replace those of the plan, beyond what the configuration allows.
        sections: Of the configuration.
    """

    def __init__(
        self,
        platform: Platform,
        queries: Iterable[str] = EVENT_QUERIES,
        parameters: Mapping[str, Any] | None = None,
        **sections: Any,
    ) -> None:
        plan = make_plan(platform, queries, **sections)
        self.plan = replace(plan, parameters={**plan.parameters, **(parameters or {})})
        self.now_s = 1000.0
        self.worker = Worker(self.plan, lambda: None, monotonic=lambda: self.now_s)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker._connection.close()

    @property
    def names(self) -> frozenset[str]:
        """Of all queries."""
        return frozenset(query.name for query in self.plan.queries)

    def poll(self, *names: str) -> frozenset[str]:
        """Poll once; return the queries that succeeded."""
        due = frozenset(names) or self.names
        self.worker._poll(due)
        results = self.worker.snapshot.results
        return frozenset(r.query for r in results if r.query in due and r.success)

    def poll_well(self, *names: str) -> None:
        """Poll once and see that everything succeeded."""
        failed = (frozenset(names) or self.names) - self.poll(*names)
        assert not failed, (failed, self.errors())

    def change(self, **changes: Any) -> None:
        """Put another plan into force, as a reload does."""
        self.worker.apply(replace(self.worker._plan, **changes))
        self.worker._apply_pending_plan()

    def change_query(self, name: str, **changes: Any) -> None:
        """Put another form of one query into force, as a reload does."""
        queries = self.worker._plan.queries
        self.change(queries=tuple(replace(q, **changes) if q.name == name else q for q in queries))

    def query(self, name: str) -> Query:
        """The catalogue entry in force."""
        return next(query for query in self.worker._plan.queries if query.name == name)

    def errors(self) -> dict[str, dict[str, int]]:
        """What failed so far: query to reason to count."""
        return {
            result.query: {str(reason): count for reason, count in result.errors.items() if count}
            for result in self.worker.snapshot.results
        }

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Label values to value, of a metric as its page would show it; `_bucket` etc. included."""
        return {
            tuple(value for _, value in sample.labels): sample.value
            for family in merge_families(
                family
                for result in self.worker.snapshot.results
                if self.now_s < result.expires_at
                for family in result.families
            )
            for sample in family.samples
            if family.name + sample.suffix == name
        }

    def value(self, name: str, *labels: str) -> float | None:
        """The sample whose labels have these values; None where there is none."""
        return self.samples(name).get(labels)

    def counts(self, name: str) -> dict[str, float]:
        """First label's value to value, zeros left out."""
        return {labels[0]: value for labels, value in self.samples(name).items() if value}
