"""The metrics' reference, its notes, the catalogue and a real page say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.errors import CatalogueError
from tests.builders import (
    add_operator,
    make_assigned_chat,
    make_replied_chat,
    make_waiting_chat,
)
from tests.contracts.test_docs import ROOT
from tests.servers import Platform
from tests.watch import run_watch, write_config
from tools.reference.metrics import (
    Entry,
    build_entries,
    load_notes,
    read_headers,
)

ENTRIES = {entry.name: entry for entry in build_entries()}


@pytest.fixture
def page(platform: Platform, tmp_path: Path) -> Iterator[str]:
    """The page of a platform that has something to show in every state."""
    make_waiting_chat(platform, age_s=100)
    make_assigned_chat(platform, age_s=100)
    make_replied_chat(platform, age_s=100)
    add_operator(platform)
    started = {"started_at": "2026-11-23T08:00:00Z"}
    logs = {"files": {"app": "app.log"}, "receivers": {"drain": {"token": "x" * 16}}}
    config = write_config(tmp_path, {"main": platform.dsn}, watch=started, logs=logs)
    with run_watch(config) as watch:
        yield watch.page()


def test_a_missing_a_superfluous_and_an_incomplete_note_are_told_together(tmp_path: Path) -> None:
    notes = tmp_path / "notes.yaml"
    notes.write_text("b: {means: x}\nc: {means: x, check: y}\n")
    with pytest.raises(CatalogueError) as error:
        load_notes(notes, ["a", "b", "d"], explained=["d"])

    assert str(error.value).splitlines() == [
        f"{notes}: a: is missing, expected a note with means and check",
        f"{notes}: c: is no metric, expected the name of a metric of the exporter",
        f"{notes}: b: does not have exactly its two texts, expected means and check",
    ]


def test_a_query_without_its_header_is_told(tmp_path: Path) -> None:
    query = next(query for entry in ENTRIES.values() for query in entry.sources)
    bare = tmp_path / "bare.sql"
    bare.write_text("-- A title.\n-- Purpose: to be tested,\n--   at length.\nSELECT 1 AS value\n")
    headless = type(query)(**{**vars(query), "path": bare, "name": "bare"})
    with pytest.raises(CatalogueError) as error:
        read_headers([headless])

    assert str(error.value).splitlines() == [
        f"{bare}: Reads: is missing from its header, expected -- Reads: …",
        f"{bare}: Cost: is missing from its header, expected -- Cost: …",
    ]


def test_every_metric_of_a_real_page_is_in_the_reference_and_no_other(page: str) -> None:
    shown = {
        (f"{family.name}_total" if family.type == "counter" else family.name): family.type
        for family in text_string_to_metric_families(page)
        if family.samples
    }

    # The page's daemon has auto-release off and no webhook, as it is by default.
    expected = {e.name: e.type for e in ENTRIES.values() if "no sample while" not in e.absence}
    assert shown == expected


def test_help_and_labels_of_a_real_page_are_those_of_the_reference(page: str) -> None:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            is_histogram = family.type == "histogram"
            entry = ENTRIES[family.name if is_histogram else sample.name]
            labels = dict(sample.labels)
            assert (labels.pop("le", None) is not None) == sample.name.endswith("_bucket")
            is_about_a_database = labels.pop("database", None) is not None
            values = dict(entry.labels)

            assert family.documentation.rstrip(".") == entry.help.rstrip(".")
            assert labels.keys() == values.keys(), sample
            assert all(not values[name] or labels[name] in values[name] for name in labels), sample
            assert is_about_a_database == _carries_database(entry), sample


def test_every_listed_label_value_that_must_exist_from_the_start_does(page: str) -> None:
    shown: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            for name, value in sample.labels.items():
                shown.setdefault(sample.name, {}).setdefault(name, set()).add(value)
    for entry in ENTRIES.values():
        if "no sample" not in entry.absence:
            for name, values in entry.labels:
                assert not values or shown[entry.name][name] == set(values), entry.name


def test_a_name_that_ends_in_total_is_a_counter_and_the_unit_ends_the_name() -> None:
    for entry in ENTRIES.values():
        assert (entry.type == "counter") == entry.name.endswith("_total")
        assert entry.name.removesuffix("_total").endswith(entry.unit)
        assert entry.help.endswith("."), entry.name


def test_metric_names_in_the_notes_and_in_the_docs_exist() -> None:
    # A prefix is written with a trailing underscore, which no name ends in.
    known = {
        *ENTRIES,
        "chatqueue_reader",
        "chatqueue_releaser",
        "chatqueue_dsn",
        "chatqueue_rollback",
    }
    names = re.compile(r"chatqueue_[a-z0-9_]*[a-z0-9]\b")
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")}
    texts[ROOT / "README.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
    for path, text in texts.items():
        unknown = {name for name in names.findall(text) if name not in known}

        assert unknown == set(), path


def _carries_database(entry: Entry) -> bool:
    """Whether a metric speaks of one database."""
    return not entry.name.startswith(
        (
            *("process_", "python_", "chatqueue_notifications_", "chatqueue_watch_"),
            "chatqueue_log_",
            *("chatqueue_exporter_build", "chatqueue_exporter_config"),
        )
    )
