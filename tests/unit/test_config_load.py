# ruff: noqa: E501
"""What a good configuration becomes."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from exporter.config import Config, limit_seconds, load_config
from exporter.config.document import read_document
from exporter.config.faults import FaultList
from exporter.config.immutable import ImmutableDict
from exporter.text import format_duration

ENVIRON = {"DSN": "postgresql://watch:hunter2@db/chat", "MAX": "7", "ODD": "a: [b]\n${DSN}"}


def load(folder: Path, text: str) -> Config:
    path = folder / "chatqueue.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, ENVIRON)


def test_the_smallest_file_gets_every_default(tmp_path: Path) -> None:
    config = load(tmp_path, "databases:\n  main:\n    dsn: ${DSN}\n")

    assert config.databases["main"].dsn.get_secret_value() == ENVIRON["DSN"]
    assert config.databases["main"].safe_dsn == "postgresql://watch:***@db/chat"
    assert config.databases["main"].labels == {}
    assert config.poll.interval == timedelta(seconds=15)
    assert config.poll.timeout == config.poll.connect_timeout == timedelta(seconds=5)
    assert config.queries.dirs == ()
    assert config.thresholds.oldest_age.waiting_assignment.critical == timedelta(minutes=5)
    assert config.thresholds.oldest_age.assigned.warning == timedelta(minutes=10)
    assert config.thresholds.oldest_age.waiting_real_user_reply.critical is None
    assert config.thresholds.customer_wait.warning == timedelta(minutes=5)
    assert config.thresholds.data_age == config.thresholds.idle_grace == timedelta(minutes=2)
    assert config.thresholds.stuck_hours == 1
    assert config.operators.max_series == 200
    assert config.operators.label == "name"


def test_every_key_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "queries.d").mkdir()
    (tmp_path / "dsn").write_text("\ufeff  host=db password=${NOT} \n", encoding="utf-8")

    config = load(
        tmp_path,
        "databases:\n"
        "  a.b-c_1: {dsn_file: dsn, labels: {env: production, answer: no, since: 2026-01-01}}\n"
        "poll: {interval: 1m, timeout: 1m, connect_timeout: 1s}\n"
        "queries:\n"
        "  dirs: [queries.d]\n"
        "  overrides:\n"
        "    q: {enabled: no, interval: 10s, timeout: 10s, max_age: 10s}\n"
        "    r: {enabled: TRUE, max_age: 1d}\n"
        "    s:\n"
        "  parameters: {text: x, whole: 3, real: 1e3, flag: false, zip: 01234}\n"
        "thresholds:\n"
        "  oldest_age: {assigned: {warning: off, critical: false}}\n"
        "  customer_wait: {warning: 0, critical: 0s}\n"
        "  idle_grace: 0\n"
        "operators: {max_series: '${MAX}', label: id}\n",
    )

    database = config.databases["a.b-c_1"]
    assert database.dsn.get_secret_value() == "host=db password=${NOT}"
    assert database.dsn_file == tmp_path / "dsn"
    assert database.labels == {"env": "production", "answer": "no", "since": "2026-01-01"}
    assert config.queries.dirs == (tmp_path / "queries.d",)
    assert config.queries.overrides["q"].enabled is False
    assert config.queries.overrides["r"].enabled is True
    assert config.queries.overrides["r"].interval is None
    assert config.queries.overrides["s"].enabled is None
    assert config.queries.parameters == {
        "text": "x", "whole": 3, "real": 1000.0, "flag": False, "zip": "01234"
    }  # fmt: skip
    assert config.thresholds.oldest_age.assigned.warning is None
    assert config.thresholds.oldest_age.assigned.critical is None
    assert config.thresholds.customer_wait.warning == timedelta(0)
    assert config.operators.max_series == 7
    assert config.operators.label == "id"


def test_sections_left_blank_mean_their_defaults(tmp_path: Path) -> None:
    blank = load(
        tmp_path,
        "databases: {m: {dsn: host=db, labels: }}\n"
        "poll:\nqueries:\n  dirs:\n  overrides:\n  parameters:\nthresholds:\n  oldest_age:\noperators:\n",
    )

    assert blank == load(tmp_path, "databases: {m: {dsn: host=db}}\n")


def test_a_changed_threshold_keeps_the_default_of_its_sibling(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "databases: {m: {dsn: host=db}}\nthresholds: {oldest_age: {assigned: {warning: 5m}}}\n",
    )

    assert config.thresholds.oldest_age.assigned.critical == timedelta(minutes=20)


def test_merge_keys_share_settings_and_never_override(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "databases:\n"
        "  a: &a {dsn: host=a, labels: &l {env: production}}\n"
        "  b: {<<: *a, dsn: host=b}\n"
        "  c: {labels: {<<: [*l, {env: x, tier: gold}]}, <<: *a}\n",
    )

    assert config.databases["b"].dsn.get_secret_value() == "host=b"
    assert config.databases["b"].labels == {"env": "production"}
    assert config.databases["c"].labels == {"env": "production", "tier": "gold"}


def test_what_the_environment_holds_is_text_and_nothing_else(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        'databases: {m: {dsn: host=db, labels: {a: "${ODD}", b: "x$${DSN}$$y$", c: "<${MAX}${MAX}>"}}}',
    )

    labels = config.databases["m"].labels
    assert labels == {"a": "a: [b]\n${DSN}", "b": "x${DSN}$$y$", "c": "<77>"}


def test_paths_are_relative_to_the_file_and_absolute_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "d").mkdir(parents=True)
    path = Path("conf/chatqueue.yaml")
    monkeypatch.chdir(tmp_path)
    path.write_text(f"databases: {{m: {{dsn: host=db}}}}\nqueries: {{dirs: [d, {tmp_path}]}}\n")

    config = load_config(path, {})

    assert config.queries.dirs == (tmp_path / "conf" / "d", tmp_path)


@pytest.mark.parametrize("dsn", ["postgresql://w:hunter2@db/c", "host=db password=hunter2"])
def test_secrets_never_show(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(dsn)

    config = load(tmp_path, "databases: {m: {dsn_file: dsn}}\n")

    database = config.databases["m"]
    for text in (
        str(config),
        repr(config),
        f"{database}",
        database.safe_dsn,
        str(config.databases),
    ):
        assert "hunter2" not in text
    assert "hunter2" not in config.model_dump_json()


def test_pydantics_own_error_does_not_show_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"databases": {"m": {"dsn": ["hunter2"]}}})

    assert "hunter2" not in str(caught.value)


def test_equal_files_are_equal_and_a_changed_one_is_not(tmp_path: Path) -> None:
    text = (
        "databases: {m: {dsn: host=db, labels: {a: b}}}\nqueries: {overrides: {q: {max_age: 1h}}}\n"
    )
    config = load(tmp_path, text)
    same = load(tmp_path, "# a comment\n" + text)
    other = load(tmp_path, text.replace("a: b", "a: c"))

    assert config == same
    assert hash(config) == hash(same)
    assert config != other
    assert config.databases != other.databases
    assert config.queries == other.queries


def test_a_rotated_dsn_file_makes_a_difference(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=db password=old")
    before = load(tmp_path, "databases: {m: {dsn_file: dsn}}\n")
    (tmp_path / "dsn").write_text("host=db password=new")

    assert load(tmp_path, "databases: {m: {dsn_file: dsn}}\n") != before


def test_nothing_can_be_changed_in_place(tmp_path: Path) -> None:
    config = load(tmp_path, "databases: {m: {dsn: host=db}}\n")

    with pytest.raises(ValidationError, match="frozen"):
        config.poll.interval = timedelta(0)  # type: ignore[misc]
    databases = config.databases
    assert isinstance(databases, ImmutableDict)
    with pytest.raises(TypeError, match="load a new one"):
        databases["x"] = databases["m"]
    with pytest.raises(TypeError, match="load a new one"):
        databases.clear()
    with pytest.raises(TypeError, match="load a new one"):
        databases |= {}


def test_an_immutable_dict_can_be_copied_and_pickled() -> None:
    mapping = ImmutableDict({"a": 1})

    assert copy.copy(mapping) is copy.deepcopy(mapping) is mapping
    assert pickle.loads(pickle.dumps(mapping)) == mapping
    assert repr(mapping) == "{'a': 1}"


def test_a_disabled_threshold_is_infinite_seconds() -> None:
    assert limit_seconds(None) == math.inf
    assert limit_seconds(timedelta(minutes=2)) == 120.0


def test_durations_are_written_as_in_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, "databases: {m: {dsn: host=db}}\npoll: {interval: 90s}\n")

    assert (
        config.model_dump()["poll"]["interval"] == "1m30s" == format_duration(timedelta(seconds=90))
    )
    assert config.model_dump()["thresholds"]["oldest_age"]["waiting_real_user_reply"] == {
        "warning": "off", "critical": "off"
    }  # fmt: skip


def test_model_takes_durations_and_paths_as_objects(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "databases": {"m": {"dsn": "host=db", "dsn_file": tmp_path}},
            "poll": {"interval": timedelta(seconds=20)},
        }
    )

    assert config.poll.interval == timedelta(seconds=20)
    assert Config.model_validate(config.model_dump() | {"databases": config.databases}) == config


def test_an_error_type_not_known_yet_is_still_a_fault_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "chatqueue.yaml"
    path.write_text("poll: {interval: 3}\n")
    faults = FaultList(read_document(path, {}), Config)

    faults.add_refusal(
        {"type": "new_in_pydantic", "loc": ("poll", "interval"), "msg": "jargon", "input": 3},
    )

    assert [str(fault) for fault in faults.sorted()] == [
        f"{path}:1: poll.interval: 3 is not valid, expected another value"
    ]


def test_a_bare_name_is_found_among_systemds_credentials_first(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for folder in (credentials, tmp_path):
        (folder / "dsn").write_text(f"host={folder.name}")
    (tmp_path / "other").write_text("host=other")
    (tmp_path / "chatqueue.yaml").write_text(
        "databases:\n"
        "  copied: {dsn_file: dsn}\n"
        "  beside: {dsn_file: other}\n"
        "  placed: {dsn_file: ./dsn}\n"
    )

    config = load_config(tmp_path / "chatqueue.yaml", {"CREDENTIALS_DIRECTORY": str(credentials)})

    assert {name: entry.dsn.get_secret_value() for name, entry in config.databases.items()} == {
        "copied": "host=credentials",
        "beside": "host=other",
        "placed": f"host={tmp_path.name}",
    }
    assert config.databases["copied"].dsn_file == credentials / "dsn"
