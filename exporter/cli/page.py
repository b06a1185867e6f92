"""The families of each database on a daemon's page, as a digest reads them."""

from __future__ import annotations

from collections.abc import Mapping

import requests
from prometheus_client.parser import text_string_to_metric_families

from exporter.errors import ChatqueueError
from exporter.metrics.snapshot import Family, Sample

_LIMIT_BYTES = 64 * 1024 * 1024


class PageError(ChatqueueError):
    """The page cannot be fetched, or is not one of metrics."""


def fetch_families(url: str, timeout_s: float) -> Mapping[str, tuple[Family, ...]]:
    """Return the families of each database, those without `database` among each.

    Args:
        url: Of `/metrics`; a user in `~/.netrc` and a CA in `REQUESTS_CA_BUNDLE` are used.
        timeout_s: For connecting, and between two bytes.

    Raises:
        PageError: It cannot be fetched or read.
    """
    try:
        with requests.get(url, timeout=timeout_s, stream=True) as answer:
            body = answer.raw.read(_LIMIT_BYTES + 1, decode_content=True)
    except (requests.RequestException, OSError) as error:
        raise PageError(f"{url} does not answer ({type(error).__name__})") from None
    if answer.status_code != requests.codes.ok:
        raise PageError(f"{url} answered {answer.status_code}, expected 200")
    if len(body) > _LIMIT_BYTES:
        raise PageError(f"{url} answered more than a page of metrics")
    try:
        return read_families(body.decode())
    except ValueError:
        raise PageError(f"{url} is no page of metrics") from None


def read_families(page: str) -> Mapping[str, tuple[Family, ...]]:
    """Return the families of each database on a page.

    Raises:
        ValueError: It is not in Prometheus's text format.
    """
    by_database: dict[str, list[Family]] = {}
    shared: list[Family] = []
    for metric in text_string_to_metric_families(page):
        for each in metric.samples:
            labels = tuple((name, v) for name, v in each.labels.items() if name != "database")
            samples = (Sample(labels, each.value),)
            family = Family(each.name, metric.type, metric.documentation, metric.unit, samples)
            database = each.labels.get("database")
            (shared if database is None else by_database.setdefault(database, [])).append(family)
    return {name: (*families, *shared) for name, families in by_database.items()}
