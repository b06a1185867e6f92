# ruff: noqa: E501
"""The model, its schema, its example and its documentation say the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exporter.config import RESERVED_LABELS, Config, load_config
from exporter.config.schema import config_schema
from exporter.config.syntax import DocumentLoader

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"
SCHEMA = config_schema()
ENVIRON = {
    "CHATQUEUE_DSN": "postgresql://watch:secret@db/chat",
    "CHATQUEUE_WEBHOOK_URL": "https://hooks.example/secret",
    "CHATQUEUE_LOG_SECRET": "the-secret-of-a-log-drain",
}
NAMES = {
    "databases": "main",
    "overrides": "state_summary",
    "endpoints": "health",
    "webhooks": "ops",
    "receivers": "hosted",
}


def _keys(section: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """List every key of the schema, with one name for sections by name."""
    for key, value in section["properties"].items():
        here = (*path, key)
        yield here
        for kind in value.get("patternProperties", {}).values():
            if "$ref" in kind:
                yield from _keys(_resolved(kind), (*here, NAMES[key]))
        if "$ref" in value:
            yield from _keys(_resolved(value), here)


def _resolved(value: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = SCHEMA["$defs"][value["$ref"].rpartition("/")[2]]
    return section


def _matches(schema: dict[str, Any], value: object) -> bool:
    """Check a value against the few words of JSON Schema that the generator uses."""
    if "$ref" in schema:
        return _matches(_resolved(schema), value)
    if "anyOf" in schema and "properties" not in schema:
        return any(_matches(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    types = {
        "null": value is None,
        "boolean": isinstance(value, bool),
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "string": isinstance(value, str),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    wanted = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(types[name] for name in wanted):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if types["number"] and isinstance(value, int | float):
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if (above is not None and value <= above) or (below is not None and value >= below):
            return False
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if isinstance(value, list):
        return all(_matches(schema["items"], item) for item in value)
    return not isinstance(value, dict) or _mapping_matches(schema, value)


def _mapping_matches(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    assert schema["additionalProperties"] is False
    options = schema.get("oneOf", [{"required": []}])
    required = sum(all(key in value for key in option["required"]) for option in options)
    either = [option["required"] for option in schema.get("anyOf", [{"required": []}])]
    if not any(all(key in value for key in keys) for keys in either):
        return False
    if required != 1 or any(key not in value for key in schema.get("required", [])):
        return False
    for key, item in value.items():
        kinds = [schema["properties"][key]] if key in schema.get("properties", {}) else [
            kind for text, kind in schema.get("patternProperties", {}).items() if re.search(text, key)
        ]  # fmt: skip
        if not kinds or not all(_matches(kind, item) for kind in kinds):
            return False
    return True


def _plain(text: str) -> Any:
    """Load YAML as an editor does."""
    loader = DocumentLoader(text)
    return loader.get_single_data()


def _at(data: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


def test_the_example_loads_and_changes_no_default() -> None:
    smallest = {"databases": {"main": {"dsn": ENVIRON["CHATQUEUE_DSN"]}}}

    assert load_config(EXAMPLE, ENVIRON) == Config.model_validate(smallest)


@pytest.mark.parametrize("path", list(_keys(SCHEMA)), ids=".".join)
def test_the_example_shows_every_key_with_its_default(path: tuple[str, ...]) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    data = _plain(text)
    section, key = _at_schema(path[:-1]), path[-1]
    default = section["properties"][key].get("default", ...)

    shown_as_comment = {
        "databases_dir",
        "dsn_file",
        "release_dsn",
        "release_dsn_file",
        "started_at",
        "state_file",
    }
    if path[0] == "prometheus":
        shown_as_comment |= {"url", "username"}
        shown_as_comment |= {"password", "password_file", "bearer_token", "bearer_token_file"}
    if key in shown_as_comment or {"overrides", "webhooks", "receivers", "endpoints"} & {
        *path[:-1]
    }:
        assert re.search(rf"^ *#[ #]+{key}: \S", text, re.MULTILINE)
    elif default is not ...:
        assert _at(data, path) == default
    else:
        assert _at(data, path) is not None


def _at_schema(path: tuple[str, ...]) -> dict[str, Any]:
    section: dict[str, Any] = SCHEMA
    for part in path:
        if "properties" in section:
            section = section["properties"][part]
        else:
            section = next(iter(section["patternProperties"].values()))
        section = _resolved(section) if "$ref" in section else section
    return section


def test_what_the_example_shows_in_comments_loads_too(tmp_path: Path) -> None:
    (tmp_path / "queries.d").mkdir()
    # `dirs: []`, then `# dirs: [queries.d]` and whatever stands deeper in that comment.
    shown = re.sub(
        r"^( *)(\w+): (?:\{\}|\[\])\n(\1# \2:.*\n(?:\1#   .*\n)*)",
        lambda match: re.sub(rf"^{match[1]}# ", match[1], match[3], flags=re.MULTILINE),
        EXAMPLE.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    (tmp_path / "c.yaml").write_text(shown, encoding="utf-8")

    config = load_config(tmp_path / "c.yaml", ENVIRON)

    assert config.databases["main"].labels == {"env": "production", "region": "eu"}
    assert config.queries.dirs == (tmp_path / "queries.d",)
    assert config.queries.overrides["state_summary"].max_age == timedelta(minutes=5)
    assert config.queries.parameters == {"vip_after": 3, "team": "support"}
    assert config.notify.webhooks["ops"].template == "slack"


def test_the_schema_accepts_the_example_and_names_itself_in_it() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")

    assert _matches(SCHEMA, _plain(text))
    first_line = text.splitlines()[0]
    assert first_line == "# yaml-language-server: $schema=exporter/config.schema.json"
    shipped = json.loads((ROOT / first_line.rpartition("=")[2]).read_text(encoding="utf-8"))
    assert shipped == config_schema() == SCHEMA


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("poll:", True),
        ("poll: {interval: 1h30m}", True),
        ('poll: {interval: "${INTERVAL}"}', True),
        ("poll: {interval: 15}", False),
        ("poll: {interval: soon}", False),
        ("poll: {intervall: 15s}", False),
        ("thresholds: {customer_wait: {warning: off, critical: false}}", True),
        ("thresholds: {customer_wait: {warning: true}}", False),
        ("thresholds: {stuck_hours: 0}", False),
        ("operators: {label: id, max_series: 10}", True),
        ("operators: {label: email}", False),
        ("queries: {overrides: {q: {enabled: false, interval: }, r: }}", True),
        ("queries: {parameters: {a: 1.5, b: true, c: x}}", True),
        ("queries: {parameters: {a: [1]}}", False),
        ("queries: {dirs: [a, b]}", True),
        ("release: {mode: off}", True),
        ("release: {mode: on}", False),
        ("release: {confirm: {polls: 3, for: 2m}}", True),
        ("slo: {answer_within: 90s, objective: 0.95}", True),
        ("slo: {objective: 1}", False),
        ("slo: {objective: 0}", False),
        ("slo: {objective: 95%}", False),
        ("slo: {answer_within: off}", False),
        ("events: {overlap: 1m, release_reasons: }", True),
        ("events: {release_reasons: {bot%: idle_timeout, a b: other}}", True),
        ('events: {release_reasons: {bot%: "${OUTCOME}"}}', True),
        ("events: {release_reasons: {gone: lost}}", False),
        ("events: {release_reasons: {'': closed}}", False),
        ("events: {release_reasons: [gone]}", False),
        ("checks: {grace: 0s}", True),
        ("checks: {grace: 30}", False),
        ("notify: ", True),
        ("notify: {webhooks: }", True),
        ("notify: {webhooks: {ops: {url: https://h/x, events: [tripped, released]}}}", True),
        ('notify: {webhooks: {ops: {url: https://h/x, template: "${T}"}}}', True),
        ("notify: {webhooks: {ops: {url: https://h/x, events: [paused]}}}", False),
        ("notify: {webhooks: {ops: {url: https://h/x, template: xml}}}", False),
        ("notify: {webhooks: {ops: {url: https://h/x, headers: {a b: c}}}}", False),
        ("notify: {webhooks: {a b: {url: https://h/x}}}", False),
        ("notify: {webhooks: {ops: {url: https://h/x, url_file: f}}}", False),
        ("notify: {webhooks: {ops: }}", False),
        ("notify: {webhooks: [{url: https://h/x}]}", False),
    ],
)
def test_the_schema_judges_as_the_loader_does(text: str, accepted: bool) -> None:
    data = {"databases": {"main": {"dsn": "host=db"}}, **_plain(text)}

    assert _matches(SCHEMA, data) is accepted


@pytest.mark.parametrize("database", [{}, {"dsn": "host=db", "dsn_file": "x"}, None])
def test_the_schema_wants_exactly_one_dsn(database: object) -> None:
    assert not _matches(SCHEMA, {"databases": {"main": database}})


def test_the_schema_is_json_schema_for_every_key() -> None:
    schema = SCHEMA

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for path in _keys(schema):
        entry = _at_schema(path[:-1])["properties"][path[-1]]
        assert "$ref" in entry or {"title", "description"} <= set(entry), path
        for pattern in re.findall(r"'pattern': '([^']*)'", str(entry)):
            re.compile(pattern.replace("\\\\", "\\"))


def test_docs_name_every_key_and_link_to_the_queries() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    for path in _keys(SCHEMA):
        assert f"| `{path[-1]}` |" in text
    assert "[queries.md](queries.md)" in text
    assert "chatqueue_exporter_config_last_reload_successful" in text


def test_reserved_labels_cover_what_the_design_reserves() -> None:
    assert {"database", "le", "job", "instance", "state"} <= RESERVED_LABELS


def test_importing_the_configuration_stays_light() -> None:
    heavy = ["psycopg", "rich", "requests", "jsonschema", "structlog", "prometheus_client"]
    code = f"import exporter.config, sys; print([m for m in {heavy!r} if m in sys.modules])"

    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert shown.stdout == "[]\n"
