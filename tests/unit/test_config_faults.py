"""What an operator reads when the configuration is wrong: the whole message, every time."""

# ruff: noqa: E501, ISC004  # messages stand whole, as an operator reads them
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from exporter.config import load_config
from exporter.errors import ConfigError

ENVIRON = {
    "DSN": "postgresql://watch:hunter2@db/chat",
    "EMPTY": "",
    "WORD": "soon",
    "BAD": "\udcff",
}
HEAD = "databases: {main: {dsn: host=db}}\n"
SECTIONS = "databases, databases_dir, poll, queries, thresholds, operators, slo, events, checks, release, logs, watch, notify, web, verify, prometheus"
DURATION = "a duration such as 15s, 2m or 1h30m"
DSN_FORM = "a connection string such as postgresql://… or host=… dbname=…"
MOMENT = "a time with its zone such as 2026-11-23T08:00:00Z"
SHARE = "expected a number such as 0.9"
OUTCOMES = "replied, customer_replied, idle_timeout, auto_release, admin, manual, closed or other"
QUOTES = "quotes around a value with special characters"


def faults_of(folder: Path, text: str | bytes) -> str:
    """Load a text as `chatqueue.yaml` and give the messages, the folder cut off."""
    path = folder / "chatqueue.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, ENVIRON)
    return str(caught.value).replace(f"{folder}/chatqueue.yaml", "F")


SYNTAX = {
    "empty file": ("", "F: the file is empty, expected a YAML mapping with at least the key databases"),
    "comments only": (
        "# nothing\n---\n",
        "F: the file is empty, expected a YAML mapping with at least the key databases",
    ),
    "a list": (
        "\n- a\n",
        "F:2: the file holds a list, expected a YAML mapping with at least the key databases",
    ),
    "a word": (
        "databases\n",
        "F:1: the file holds 'databases', expected a YAML mapping with at least the key databases",
    ),
    "tab": ("poll:\n\tinterval: 1s\n", "F:2: column 1: a tab where spaces are needed, expected spaces"),
    "special character": (
        "a: @b\n",
        f"F:1: column 4: a value begins with a special character, expected {QUOTES}",
    ),
    "second colon": (
        "a: b: c\n",
        f"F:1: column 5: a second colon, expected one key per line, or {QUOTES}",
    ),
    "no colon": ("a: 1\nbc\nd: 1\n", "F:3: column 1: a key without its colon, expected key: value"),
    "indentation": (
        "a:\n  b: 1\n c: 2\n",
        "F:3: column 2: wrong indentation, expected keys of one mapping under each other",
    ),
    "open quote": (
        'a: "b\n',
        "F:2: column 1: a quoted text does not end, expected its closing quote",
    ),
    "open list": (
        "a: [b\nc: d\n",
        "F:2: column 2: a list in [ ] does not end or lacks a comma, expected [one, two]",
    ),
    "bare variable in braces": (
        "databases: {main: {dsn: ${DSN}}}\n",
        "F:1: column 26: a mapping in { } does not end or lacks a comma, expected {key: value}, "
        "with quotes around a value that holds { or }",
    ),
    "two documents": (
        "a: 1\n---\nb: 1\n",
        "F:2: column 1: a second document (---), expected one document a file",
    ),
    "alias without anchor": (
        "a: *hunter2\n",
        "F:1: column 4: an alias (*) without its anchor (&), expected the anchor before it",
    ),
    "escape": (
        'a: "\\q"\n',
        "F:1: column 6: an unknown \\ escape in double quotes, expected single quotes, or \\\\",
    ),
    "other trouble": (
        "a: !x!y z\n",
        "F:1: column 4: not YAML (found undefined tag handle …), expected valid YAML",
    ),
    "control character": ("a: 1\nb: \x07\n", "F:2: column 4: a control character, expected printable text"),
    "not UTF-8": (
        b"a: 1\nb: \xff\n",
        "F: line 2 is not UTF-8, expected a readable YAML file in UTF-8 of at most 1 MiB",
    ),
    "too large": (
        "#" * (1024 * 1024 + 1),
        "F: larger than 1024 KiB, expected a readable YAML file in UTF-8 of at most 1 MiB",
    ),
    "too deep": (
        "a: " + "[" * 5000,
        "F:1: column 35: nested too deep, expected at most 32 levels",
    ),
    "alias that holds itself": (
        "a: &a [*a]\n",
        "F:1: nested too deep, aliases expanded, expected at most 32 levels",
    ),
    "alias bomb": (
        "a0: &a0 [x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
        "F:1: too many values, aliases expanded, expected at most 20000 values in all",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), SYNTAX.values(), ids=SYNTAX)
def test_a_file_that_is_not_one_mapping(text: str | bytes, message: str, tmp_path: Path) -> None:
    assert faults_of(tmp_path, text) == message


CASES: dict[str, tuple[str, str]] = {
    "no databases key": ("poll: {}\n", "F:1: databases: missing, expected at least one, or databases_dir"),
    "no databases": ("databases: {}\n", "F:1: databases: a mapping has no entries, expected at least one, or databases_dir"),
    "databases left blank": (
        "databases:\n",
        "F:1: databases: an empty value has no entries, expected at least one, or databases_dir",
    ),
    "databases as a list": (
        "databases:\n- host=db\n",
        "F:1: databases: a list is not a mapping, expected a mapping, one name: value per line",
    ),
    "database as text": (
        "databases:\n  main: host=db\n",
        "F:2: databases.main: 'host=db' is not a mapping, expected a mapping with dsn, dsn_file, "
        "release_dsn, release_dsn_file, labels",
    ),
    "database name": (
        "databases:\n  'a b': {dsn: host=db}\n",
        "F:2: databases.a b: 'a b' is not a name, expected 1 to 63 letters, digits, _, . or -",
    ),
    "no dsn": (
        "databases:\n  main:\n",
        "F:2: databases.main.dsn: neither dsn nor dsn_file is given, expected exactly one of them",
    ),
    "both dsns": (
        "databases:\n  main:\n    dsn: host=db\n    dsn_file: x\n",
        "F:4: databases.main.dsn_file: stands beside dsn, expected only one of the two",
    ),
    "dsn blank": (
        "databases:\n  main: {dsn: }\n",
        f"F:2: databases.main.dsn: the value is empty, expected {DSN_FORM}",
    ),
    "dsn empty": (
        'databases:\n  main: {dsn: "${EMPTY}"}\n',
        f"F:2: databases.main.dsn: the value is empty, expected {DSN_FORM}",
    ),
    "dsn a number": (
        "databases:\n  main: {dsn: 31337}\n",
        f"F:2: databases.main.dsn: the value is not text, expected {DSN_FORM}",
    ),
    "dsn something else": (
        "databases:\n  main: {dsn: hunter2}\n",
        f"F:2: databases.main.dsn: the value is not a connection string, expected {DSN_FORM}",
    ),
    "dsn file missing": (
        "databases:\n  main: {dsn_file: nowhere}\n",
        "F:2: databases.main.dsn_file: 'nowhere': no such file, expected a file holding " + DSN_FORM,
    ),
    "dsn file a folder": (
        "databases:\n  main: {dsn_file: .}\n",
        "F:2: databases.main.dsn_file: '.': this is a directory, expected a file holding " + DSN_FORM,
    ),
    "dsn file a dsn": (
        "databases:\n  main: {dsn_file: 'postgresql://w:hunter2@db/c'}\n",
        "F:2: databases.main.dsn_file: 'postgresql://w:***@db/c': no such file, "
        "expected a file holding " + DSN_FORM,
    ),
    "dsn file no name": (
        'databases:\n  main: {dsn_file: "a\\n"}\n  other: {dsn_file: 5}\n',
        "F:2: databases.main.dsn_file: 'a\\n': no such file, expected a file holding " + DSN_FORM
        + "\nF:3: databases.other.dsn_file: 5 is not text, expected text in quotes",
    ),
    "dsn file empty name": (
        "databases:\n  main: {dsn_file: ''}\n",
        "F:2: databases.main.dsn_file: '' is empty, expected text",
    ),
    "dsn file blank": (
        "databases:\n  main: {dsn_file: }\n",
        "F:2: databases.main.dsn_file: an empty value: no file is named, expected a file holding "
        + DSN_FORM,
    ),
    "dsn file its own content": (
        "databases:\n  main: {dsn_file: empty.txt}\n",
        "F:2: databases.main.dsn_file: 'empty.txt': its content is empty, expected a file holding "
        + DSN_FORM,
    ),
    "label names": (
        HEAD.replace("host=db", "host=db, labels: {state: a, 1x: a, __m: a, ok: a}"),
        "F:1: databases.main.labels.state: 'state' is a label the exporter sets itself, "
        "expected another name\n"
        "F:1: databases.main.labels.1x: '1x' is not a label name, expected letters, digits and _, "
        "not beginning with a digit or with __\n"
        "F:1: databases.main.labels.__m: '__m' is not a label name, expected letters, digits and _, "
        "not beginning with a digit or with __",
    ),
    "label values": (
        HEAD.replace("host=db", "host=db, labels: {a: 1, b: true, c: , d: '', e: [x]}"),
        "F:1: databases.main.labels.a: 1 is not text, expected text in quotes\n"
        "F:1: databases.main.labels.b: true is not text, expected text in quotes\n"
        "F:1: databases.main.labels.c: an empty value is given, expected text\n"
        "F:1: databases.main.labels.d: '' is empty, expected text\n"
        "F:1: databases.main.labels.e: a list is not text, expected text",
    ),
    "unknown section": (
        HEAD + "polls: {}\n",
        f"F:2: polls: unknown key, expected one of {SECTIONS}; did you mean poll?",
    ),
    "time without a zone": (
        HEAD + "watch: {started_at: 2026-11-23 08:00:00}\n",
        f"F:2: watch.started_at: '2026-11-23 08:00:00' has no zone, expected {MOMENT}",
    ),
    "time that is none": (
        HEAD + "watch: {started_at: yesterday}\n",
        f"F:2: watch.started_at: 'yesterday' is not a time, expected {MOMENT}",
    ),
    "time as a number": (
        HEAD + "watch: {started_at: 1763884800}\n",
        f"F:2: watch.started_at: 1763884800 is not a time, expected {MOMENT}",
    ),
    "time beyond the calendar": (
        HEAD + "watch: {started_at: '0001-01-01T00:00:00+05:00'}\n",
        f"F:2: watch.started_at: '0001-01-01T00:00:00+05:00' is not a time, expected {MOMENT}",
    ),
    "digests too often": (
        HEAD + "watch:\n  digests: {first_hour: 30s, afterwards: 2d}\n",
        "F:3: watch.digests.first_hour: '30s' is too short, expected 1m or more, or off\n"
        "F:3: watch.digests.afterwards: '2d' is too long, expected 1d or less, or off",
    ),
    "digests without a unit": (
        HEAD + "watch: {digests: {first_hour: 15}}\n",
        "F:2: watch.digests.first_hour: 15 has no unit, expected a duration such as 15s, or off",
    ),
    "rollback at once": (
        HEAD + "watch: {rollback_within: 0}\n",
        "F:2: watch.rollback_within: 0 is too short, expected 1m or more",
    ),
    "digests of another shape": (
        HEAD + "watch: {digests: hourly}\n",
        "F:2: watch.digests: 'hourly' is not a mapping, expected a mapping with first_hour, "
        "afterwards, state_file",
    ),
    "watch of another shape": (
        HEAD + "watch: soon\n",
        "F:2: watch: 'soon' is not a mapping, expected a mapping with started_at, for, "
        "rollback_within, digests",
    ),
    "state file without a name": (
        HEAD + "watch: {digests: {state_file: 7}}\n",
        "F:2: watch.digests.state_file: 7 is not text, expected text in quotes",
    ),
    "two passwords": (
        HEAD + "prometheus:\n  password: hunter2\n  password_file: pw\n",
        "F:4: prometheus.password_file: stands beside password, expected only one of the two",
    ),
    "token file that is missing": (
        HEAD + "prometheus: {bearer_token_file: nowhere}\n",
        "F:2: prometheus.bearer_token_file: 'nowhere': no such file, expected a file holding one "
        "line of plain characters",
    ),
    "token of two lines": (
        HEAD + 'prometheus: {bearer_token: "a\\nb"}\n',
        "F:2: prometheus.bearer_token: the value cannot be sent, expected one line of plain "
        "characters",
    ),
    "prometheus without a scheme": (
        HEAD + "prometheus: {url: 'prometheus:9090'}\n",
        "F:2: prometheus.url: the value is not a URL, expected an http:// or https:// URL",
    ),
    "section of a later release": (
        HEAD + "webhooks: {}\n",
        f"F:2: webhooks: unknown key, expected one of {SECTIONS}; did you mean web?",
    ),
    "unknown key": (
        HEAD + "thresholds:\n  custmer_wait: {warning: off}\n",
        "F:3: thresholds.custmer_wait: unknown key, expected one of oldest_age, customer_wait, "
        "data_age, idle_grace, operator_idle, stuck_hours, stale_operators, fairness, "
        "database_drops, clock_skew, release_paused; did you mean customer_wait?",
    ),
    "unknown key below a name": (
        HEAD + "queries:\n  overrides:\n    q: {Intervall: 1s}\n",
        "F:4: queries.overrides.q.Intervall: unknown key, expected one of enabled, interval, "
        "timeout, max_age; did you mean interval?",
    ),
    "password under the wrong key": (
        "databases:\n  main: {dsn: host=db, password: hunter2}\n",
        "F:2: databases.main.password: unknown key, expected one of dsn, dsn_file, "
        "release_dsn, release_dsn_file, labels",
    ),
    "section as text": (
        HEAD + "poll: 15s\n",
        "F:2: poll: '15s' is not a mapping, expected a mapping with interval, timeout, connect_timeout",
    ),
    "duration": (
        HEAD + "poll:\n  interval: 15 parsecs\n",
        f"F:3: poll.interval: '15 parsecs' is not a duration, expected {DURATION}",
    ),
    "duration on the next line": (
        HEAD + "poll:\n  interval:\n    soon\n",
        f"F:4: poll.interval: 'soon' is not a duration, expected {DURATION}",
    ),
    "duration without a unit": (
        HEAD + "poll: {interval: 15, timeout: 1.5, connect_timeout: 90}\n",
        "F:2: poll.interval: 15 has no unit, expected a duration such as 15s\n"
        "F:2: poll.timeout: 1.5 has no unit, expected a duration such as 1s500ms\n"
        "F:2: poll.connect_timeout: 90 has no unit, expected a duration such as 1m30s",
    ),
    "duration without sense": (
        HEAD + "poll: {interval: .inf, timeout: -5, connect_timeout: .nan}\n",
        f"F:2: poll.interval: .inf has no unit, expected {DURATION}\n"
        f"F:2: poll.timeout: -5 has no unit, expected {DURATION}\n"
        f"F:2: poll.connect_timeout: .nan has no unit, expected {DURATION}",
    ),
    "duration as old YAML has it": (
        HEAD + "poll: {interval: 1:30, timeout: 2026-01-01, connect_timeout: off}\n",
        f"F:2: poll.interval: '1:30' is not a duration, expected {DURATION}\n"
        f"F:2: poll.timeout: '2026-01-01' is not a duration, expected {DURATION}\n"
        f"F:2: poll.connect_timeout: 'off' is not a duration, expected {DURATION}",
    ),
    "duration blank, true or a list": (
        HEAD + "poll: {interval: , timeout: true, connect_timeout: [5s]}\n",
        f"F:2: poll.interval: an empty value is given, expected {DURATION}\n"
        f"F:2: poll.timeout: true is not a duration, expected {DURATION}\n"
        f"F:2: poll.connect_timeout: a list is not a duration, expected {DURATION}",
    ),
    "duration out of bounds": (
        HEAD + "poll: {interval: 999ms, timeout: 99ms, connect_timeout: 300y}\n",
        "F:2: poll.interval: '999ms' is too short, expected 1s or more\n"
        "F:2: poll.timeout: '99ms' is too short, expected 100ms or more\n"
        "F:2: poll.connect_timeout: '300y' is too long, expected at most 290y",
    ),
    "interval too long": (
        HEAD + "poll:\n  interval: 2d\n  timeout: 0\n",
        "F:3: poll.interval: '2d' is too long, expected 1d or less\n"
        "F:4: poll.timeout: 0 is too short, expected 100ms or more",
    ),
    "timeout beyond interval": (
        HEAD + "poll:\n  timeout: 20s\n  interval: 10s\n",
        "F:3: poll.timeout: '20s' is longer than interval (10s), expected 10s or less",
    ),
    "default timeout beyond interval": (
        HEAD + "poll:\n  interval: 2s\n",
        "F:2: poll.timeout: the default 5s is longer than interval (2s), expected 2s or less",
    ),
    "dirs": (
        HEAD + "queries:\n  dirs: queries.d\n",
        "F:3: queries.dirs: 'queries.d' is not a list, expected a list such as [one, two]",
    ),
    "each dir": (
        HEAD + "queries:\n  dirs:\n  - 5\n  - nowhere\n  - ''\n  - chatqueue.yaml\n",
        "F:4: queries.dirs[0]: 5 is not text, expected text in quotes\n"
        "F:5: queries.dirs[1]: 'nowhere' is not a folder, expected a folder with queries\n"
        "F:6: queries.dirs[2]: '' is empty, expected text\n"
        "F:7: queries.dirs[3]: 'chatqueue.yaml' is not a folder, expected a folder with queries",
    ),
    "overrides": (
        HEAD + "queries:\n  overrides:\n    q: off\n    'a b': {}\n",
        "F:4: queries.overrides.q: 'off' is not a mapping, expected a mapping with enabled, "
        "interval, timeout, max_age\n"
        "F:5: queries.overrides.a b: 'a b' is not a query name, "
        "expected the name of a .sql file, without its ending",
    ),
    "one override": (
        HEAD + "queries:\n  overrides:\n    q: {enabled: 1, interval: 10s, timeout: 11s, max_age: 9s}\n",
        "F:4: queries.overrides.q.enabled: 1 is not a switch, expected true or false\n"
        "F:4: queries.overrides.q.timeout: '11s' is longer than interval (10s), expected 10s or less\n"
        "F:4: queries.overrides.q.max_age: '9s' is shorter than interval (10s), expected 10s or more",
    ),
    "parameters": (
        HEAD + "queries:\n  parameters: {a-b: 1, b: .nan, c: , d: {}}\n",
        "F:3: queries.parameters.a-b: 'a-b' is not a parameter name, "
        "expected letters, digits and _, not beginning with a digit\n"
        "F:3: queries.parameters.b: .nan is not a finite number, "
        "expected text, a number, true or false\n"
        "F:3: queries.parameters.c: an empty value is given, expected text, a number, true or false\n"
        "F:3: queries.parameters.d: a mapping is not a single value, "
        "expected text, a number, true or false",
    ),
    "threshold": (
        HEAD + "thresholds:\n  customer_wait:\n    warning: 5\n    critical:\n",
        "F:4: thresholds.customer_wait.warning: 5 has no unit, expected a duration such as 5s, or off\n"
        f"F:5: thresholds.customer_wait.critical: an empty value is given, expected {DURATION}, or off",
    ),
    "critical below warning": (
        HEAD + "thresholds:\n  oldest_age:\n    assigned: {warning: 10m, critical: 5m}\n",
        "F:4: thresholds.oldest_age.assigned.critical: '5m' is below warning (10m), "
        "expected 10m or more, or off",
    ),
    "default critical below warning": (
        HEAD + "thresholds:\n  customer_wait:\n    warning: 15m\n",
        "F:3: thresholds.customer_wait.critical: the default 10m is below warning (15m), "
        "expected 15m or more, or off",
    ),
    "state": (
        HEAD + "thresholds:\n  oldest_age:\n    waiting: {}\n",
        "F:4: thresholds.oldest_age.waiting: unknown key, expected one of waiting_assignment, "
        "assigned, waiting_real_user_reply; did you mean waiting_assignment?",
    ),
    "whole number": (
        HEAD + "thresholds:\n  stuck_hours: 1.5\noperators:\n  max_series: 10001\n",
        "F:3: thresholds.stuck_hours: 1.5 is not a whole number, expected digits such as 10\n"
        "F:5: operators.max_series: 10001 is too large, expected 10000 or less",
    ),
    "whole number of another kind": (
        HEAD + "thresholds:\n  stuck_hours: true\noperators:\n  max_series:\n",
        "F:3: thresholds.stuck_hours: true is not a whole number, expected digits such as 10\n"
        "F:5: operators.max_series: an empty value is given, expected digits such as 10",
    ),
    "whole numbers as others write them": (
        HEAD + "thresholds:\n  stuck_hours: 1.0\noperators:\n  max_series: '1_0'\n",
        "F:3: thresholds.stuck_hours: 1.0 is not a whole number, expected digits such as 10\n"
        "F:5: operators.max_series: '1_0' is not a whole number, expected digits such as 10",
    ),
    "switches as others write them": (
        HEAD + "queries:\n  overrides:\n    q: {enabled: y}\n    r: {enabled: '1'}\n",
        "F:4: queries.overrides.q.enabled: 'y' is not a switch, expected true or false\n"
        "F:5: queries.overrides.r.enabled: '1' is not a switch, expected true or false",
    ),
    "number that does not fit": (
        HEAD + f"thresholds:\n  stuck_hours: {'9' * 5000}\n",
        "F:3: thresholds.stuck_hours: does not fit its YAML type, expected a plain value",
    ),
    "choice": (
        HEAD + "operators:\n  label: email\n",
        "F:3: operators.label: 'email' is not known, expected name or id",
    ),
    "choice of another kind": (
        HEAD + "operators:\n  label: [name]\n",
        "F:3: operators.label: a list is not known, expected name or id",
    ),
    "share out of range": (
        HEAD + "slo:\n  objective: 1\n",
        "F:3: slo.objective: 1 is too large, expected less than 1",
    ),
    "share of nothing": (
        HEAD + "slo:\n  objective: 0\n",
        "F:3: slo.objective: 0 is too small, expected 0.5 or more",
    ),
    "share in percent": (
        HEAD + "slo:\n  objective: 95%\n",
        f"F:3: slo.objective: '95%' is not a number, {SHARE}",
    ),
    "share without sense": (
        HEAD + "slo:\n  objective: .nan\n",
        f"F:3: slo.objective: .nan is not a finite number, {SHARE}",
    ),
    "share of another kind": (
        HEAD + "slo:\n  objective: true\n  answer_within: off\n",
        f"F:3: slo.objective: true is not a number, {SHARE}\n"
        f"F:4: slo.answer_within: 'off' is not a duration, expected {DURATION}",
    ),
    "objective without room for an alert": (
        HEAD + "slo:\n  objective: 0.4\n",
        "F:3: slo.objective: 0.4 is too small, expected 0.5 or more",
    ),
    "min_breaches out of range": (
        HEAD + "slo:\n  min_breaches: 0\n",
        "F:3: slo.min_breaches: 0 is too small, expected 1 or more",
    ),
    "share or off": (
        HEAD + "thresholds:\n  stale_operators: 1.5\n  fairness: {gini: }\n",
        "F:3: thresholds.stale_operators: 1.5 is too large, expected less than 1, or off\n"
        f"F:4: thresholds.fairness.gini: an empty value is given, {SHARE}, or off",
    ),
    "number or off": (
        HEAD + "thresholds:\n  database_drops: 0\n",
        "F:3: thresholds.database_drops: 0 is too small, expected 1 or more, or off",
    ),
    "number or off of another kind": (
        HEAD + "thresholds:\n  database_drops: few\n",
        "F:3: thresholds.database_drops: 'few' is not a whole number, expected digits such as 10, or off",
    ),
    "pause beyond a day": (
        HEAD + "thresholds:\n  release_paused: 1d\n",
        "F:3: thresholds.release_paused: '1d' is too long, expected 23h or less, or off",
    ),
    "answer_within out of bounds": (
        HEAD + "slo:\n  answer_within: 0\n",
        "F:3: slo.answer_within: 0 is too short, expected 1s or more",
    ),
    "overlap too short": (
        HEAD + "events:\n  overlap: 999ms\n",
        "F:3: events.overlap: '999ms' is too short, expected 1s or more",
    ),
    "overlap too long": (
        HEAD + "events:\n  overlap: 11m\n",
        "F:3: events.overlap: '11m' is too long, expected 10m or less",
    ),
    "release outcome": (
        HEAD + "events:\n  release_reasons:\n    bot%: idle_timeout\n    gone: lost\n    '': closed\n",
        f"F:5: events.release_reasons.gone: 'lost' is not known, expected {OUTCOMES}\n"
        "F:6: events.release_reasons.: '' is empty, expected text",
    ),
    "release outcome of another kind": (
        HEAD + "events:\n  release_reasons: {a: , b: [closed]}\n",
        f"F:3: events.release_reasons.a: an empty value is given, expected {OUTCOMES}\n"
        f"F:3: events.release_reasons.b: a list is not known, expected {OUTCOMES}",
    ),
    "release reasons in a list": (
        HEAD + "events:\n  release_reasons: [gone]\n",
        "F:3: events.release_reasons: a list is not a mapping, expected a mapping, one name: value per line",
    ),
    "grace too long": (
        HEAD + "checks:\n  grace: 2h\n",
        "F:3: checks.grace: '2h' is too long, expected 1h or less",
    ),
    "keys of the new sections": (
        HEAD + "slo: {objectiv: 0.9}\nevents: {overlaps: 1s}\nchecks: {x: 1s}\n",
        "F:2: slo.objectiv: unknown key, expected one of answer_within, objective, min_breaches; did you mean objective?\n"
        "F:3: events.overlaps: unknown key, expected one of overlap, release_reasons; did you mean overlap?\n"
        "F:4: checks.x: unknown key, expected one of grace",
    ),
    "duplicate key": (
        HEAD + "poll:\n  interval: 10s\n  timeout: 1s\n  interval: 20s\n",
        "F:5: poll.interval: set twice, first on line 3, expected each key once",
    ),
    "duplicate section": (
        HEAD + "poll: {}\n" + HEAD,
        "F:3: databases: set twice, first on line 1, expected each key once",
    ),
    "key that is a list": (
        HEAD + "poll:\n  ? [a]\n  : b\n",
        "F:3: poll: a list stands as a key, expected text",
    ),
    "faults behind an alias, once": (
        "databases:\n"
        "  a: &a {dsn: host=db, dsn: host=db, [x]: y}\n"
        "  b: *a\n",
        "F:2: databases.a.dsn: set twice, first on line 2, expected each key once\n"
        "F:2: databases.a: a list stands as a key, expected text",
    ),
    "merge of a word": (
        HEAD + "poll:\n  <<: soon\n",
        "F:3: poll.<<: does not merge a mapping, expected an alias of a finished one",
    ),
    "merge that holds itself": (
        HEAD + "poll: &poll\n  <<: *poll\n",
        "F:2: poll.<<: does not merge a mapping, expected an alias of a finished one",
    ),
    "merges that a few aliases repeat without end": (
        HEAD + "poll:\n  <<:\n"
        + "".join(f"  - &m{n} {{k{n}: 1, <<: [{', '.join([f'*m{n - 1}'] * 40)}]}}\n" for n in range(1, 9))
            .replace("*m0", "{interval: 1}"),
        "F:4: poll.interval: 1 has no unit, expected a duration such as 1s\n"
        + "\n".join(f"F:{n + 3}: poll.k{n}: unknown key, expected one of interval, timeout, connect_timeout"
            for n in range(1, 9)),
    ),
    "tag": (
        HEAD + "poll: !!python/object:os.system {interval: 1s}\n",
        "F:2: poll: has a YAML tag (!), expected plain YAML, or quotes around a value that begins with !",
    ),
    "tag that does not fit": (
        HEAD + "poll: {interval: !!int soon, timeout: !!bool soon}\n",
        "F:2: poll.interval: does not fit its YAML type, expected a plain value\n"
        "F:2: poll.timeout: does not fit its YAML type, expected a plain value",
    ),
    "variable not set": (
        'databases:\n  main:\n    dsn: postgresql://w:${NOPE}@db${NADA}\n',
        "F:3: databases.main.dsn: the environment variable NOPE is not set, "
        "expected NOPE in the environment\n"
        "F:3: databases.main.dsn: the environment variable NADA is not set, "
        "expected NADA in the environment",
    ),
    "variable without a name": (
        'databases:\n  main:\n    dsn: postgresql://w:hunter2${-x}@db\n',
        "F:3: databases.main.dsn: holds ${ without a variable name and }, "
        "expected ${NAME}, or $${ for a plain ${",
    ),
    "variable not fit": (
        HEAD + "poll:\n  interval: ${WORD}\n",
        f"F:3: poll.interval: '${{WORD}}' (from the environment) is not a duration, expected {DURATION}",
    ),
    "variable not text": (
        HEAD + "queries:\n  parameters: {a: \"${BAD}\", b: \"\\0\"}\n",
        "F:3: queries.parameters.a: holds characters that are not UTF-8 text, expected text in UTF-8\n"
        "F:3: queries.parameters.b: holds characters that are not UTF-8 text, expected text in UTF-8",
    ),
    "variable for a whole section": (
        HEAD + "poll: ${NOPE}\nqueries:\n  dirs:\n  - ${NOPE}\n",
        "F:2: poll: the environment variable NOPE is not set, expected NOPE in the environment\n"
        "F:5: queries.dirs[0]: the environment variable NOPE is not set, "
        "expected NOPE in the environment",
    ),
    "long value": (
        HEAD + f"poll: {{interval: {'x' * 80}}}\n",
        f"F:2: poll.interval: '{'x' * 57}…' is not a duration, expected {DURATION}",
    ),
    "value behind an alias": (
        HEAD.replace("host=db", "host=db, labels: {a: &a soon}") + "poll:\n  interval: *a\n",
        f"F:1: poll.interval: 'soon' is not a duration, expected {DURATION}",
    ),
    "several at once, in the order of the file": (
        "poll:\n  interval: 5\noperators:\n  label: x\n  nope: 1\ndatabases:\n  main:\n    labels: 3\n",
        "F:2: poll.interval: 5 has no unit, expected a duration such as 5s\n"
        "F:4: operators.label: 'x' is not known, expected name or id\n"
        "F:5: operators.nope: unknown key, expected one of max_series, label\n"
        "F:7: databases.main.dsn: neither dsn nor dsn_file is given, expected exactly one of them\n"
        "F:8: databases.main.labels: 3 is not a mapping, expected a mapping, one name: value per line",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CASES.values(), ids=CASES)
def test_a_value_or_key_that_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")

    assert faults_of(tmp_path, text) == message


LOGS: dict[str, tuple[str, str]] = {
    "source name": (
        "logs: {files: {a b: x.log}}\n",
        "F:2: logs.files.a b: 'a b' is not a name, expected 1 to 63 letters, digits, _, . or -",
    ),
    "path": (
        "logs: {files: {app: 1}}\n",
        "F:2: logs.files.app: 1 is not text, expected text in quotes",
    ),
    "many files": (
        "logs: {files: {" + ", ".join(f"f{n}: x" for n in range(33)) + "}}\n",
        "F:2: logs.files: a mapping has 33 entries, expected at most 32",
    ),
    "from": (
        "logs: {from: middle}\n",
        "F:2: logs.from: 'middle' is not known, expected end or start",
    ),
    "the same name twice": (
        "logs: {files: {app: x}, receivers: {app: {token: 0123456789abcdef}}}\n",
        "F:2: logs.receivers: app is a file's name too, expected another name",
    ),
    "neither": (
        "logs: {receivers: {drain: {}}}\n",
        "F:2: logs.receivers.drain.secret: neither of token and secret, expected exactly one of them",
    ),
    "left blank": (
        "logs: {receivers: {drain: }}\n",
        "F:2: logs.receivers.drain.secret: neither of token and secret, expected exactly one of them",
    ),
    "both": (
        "logs: {receivers: {drain: {token: 0123456789abcdef, secret: 0123456789abcdef}}}\n",
        "F:2: logs.receivers.drain.secret: both of token and secret, expected exactly one of them",
    ),
    "short token": (
        "logs: {receivers: {drain: {token: hunter2}}}\n",
        "F:2: logs.receivers.drain.token: the value is no secret to rely on, expected 16 to 1024 "
        "characters without blanks",
    ),
    "token and its file": (
        "logs: {receivers: {drain: {token: 0123456789abcdef, token_file: x}}}\n",
        "F:2: logs.receivers.drain.token_file: stands beside token, expected only one of the two",
    ),
    "no file": (
        "logs: {receivers: {drain: {token_file: nowhere}}}\n",
        "F:2: logs.receivers.drain.token_file: 'nowhere': no such file, expected a file "
        "holding 16 to 1024 characters without blanks",
    ),
    "short secret in a file": (
        "logs: {receivers: {drain: {secret_file: short}}}\n",
        "F:2: logs.receivers.drain.secret_file: 'short': its content is no secret to rely on, expected "
        "a file holding 16 to 1024 characters without blanks",
    ),
    "header": (
        "logs: {receivers: {drain: {secret: 0123456789abcdef, signature_header: 'x y'}}}\n",
        "F:2: logs.receivers.drain.signature_header: 'x y' is not a header's name, expected letters, "
        "digits and -",
    ),
    "algorithm": (
        "logs: {receivers: {drain: {secret: 0123456789abcdef, algorithm: md5}}}\n",
        "F:2: logs.receivers.drain.algorithm: 'md5' is not known, expected sha1 or sha256",
    ),
    "pattern name": (
        "logs: {patterns: {No: x}}\n",
        "F:2: logs.patterns.No: 'No' is not a pattern name, expected small letters, digits and _, such "
        "as cron_failure",
    ),
    "pattern called other": (
        "logs: {patterns: {other: x}}\n",
        "F:2: logs.patterns.other: 'other' is what no pattern matches, expected another name",
    ),
    "open bracket": (
        "logs: {patterns: {mine: '('}}\n",
        "F:2: logs.patterns.mine: '(' cannot be used (missing ): (), expected RE2 syntax, or off",
    ),
    "look-ahead": (
        "logs: {patterns: {mine: '(?=a)b'}}\n",
        "F:2: logs.patterns.mine: '(?=a)b' cannot be used (invalid perl operator: (?=), expected RE2 "
        "syntax, or off",
    ),
    "too large a pattern": (
        "logs: {patterns: {mine: '((a{100}){100}){100}'}}\n",
        "F:2: logs.patterns.mine: '((a{100}){100}){100}' cannot be used (invalid repetition size: "
        "{100}), expected RE2 syntax, or off",
    ),
    "pattern without words": (
        "logs: {patterns: {mine: 'a*'}}\n",
        "F:2: logs.patterns.mine: 'a*' matches every line, expected an expression which an empty line "
        "does not match, or off",
    ),
    "pattern left blank": (
        "logs: {patterns: {mine: }}\n",
        "F:2: logs.patterns.mine: an empty value is given, expected RE2 syntax, or off",
    ),
    "pattern as a number": (
        "logs: {patterns: {mine: 1}}\n",
        "F:2: logs.patterns.mine: 1 is not text, expected RE2 syntax, or off",
    ),
}


@pytest.mark.parametrize(("text", "message"), LOGS.values(), ids=LOGS)
def test_a_log_source_or_pattern_that_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("hunter2")

    assert faults_of(tmp_path, HEAD + text) == message


def test_log_sources_as_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    (tmp_path / "chatqueue.yaml").write_text(
        f"{HEAD}logs:\n  files: {{app: x.log, abs: /y.log}}\n  receivers:\n"
        "    a: {token_file: key}\n    b: {secret_file: key, signature_header: X-Sig}\n"
        "  patterns: {mine: '(?i)a', cron_failure: off, assignment_error: false}\n"
    )
    logs = load_config(tmp_path / "chatqueue.yaml", ENVIRON).logs

    assert logs.files == {"app": tmp_path / "x.log", "abs": Path("/y.log")}
    assert logs.receivers["a"].token == SecretStr("0123456789abcdef")
    assert logs.receivers["a"].token_file == tmp_path / "key"
    assert logs.receivers["b"].secret == SecretStr("0123456789abcdef")
    assert logs.receivers["b"].signature_header == "x-sig"
    assert logs.patterns == {"mine": "(?i)a", "cron_failure": None, "assignment_error": None}
    assert logs.from_ == "end"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "nowhere.yaml", {})

    assert str(caught.value) == (
        f"{tmp_path}/nowhere.yaml: no such file, "
        "expected a readable YAML file in UTF-8 of at most 1 MiB"
    )


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a directory, expected a readable YAML file"):
        load_config(tmp_path, {})


def test_a_path_through_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"cannot be read \(Not a directory\), expected"):
        load_config(tmp_path / "file" / "chatqueue.yaml", {})


def test_a_name_no_file_can_have() -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(the name is not a file name\)"):
        load_config(Path("a\0b"), {})


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(ConfigError, match="permission to read it is denied, expected"):
        load_config(tmp_path / "chatqueue.yaml", {})


def test_no_fault_shows_what_came_from_the_environment_or_a_secret_key(tmp_path: Path) -> None:
    text = (
        "databases:\n"
        "  a: {dsn: hunter2}\n"
        "  b: {dsn: 'host=db', labels: {state: \"${DSN}\"}}\n"
        "  c: {dsn: [hunter2]}\n"
        "  d: {dsn: {password: hunter2}}\n"
        "poll: {interval: \"${DSN}\", timeout: 'postgresql://w:hunter2@db'}\n"
        'operators: {label: "${DSN}", max_series: "password=hunter2"}\n'
    )

    message = faults_of(tmp_path, text)

    assert message.count("\n") == 7
    assert "hunter2" not in message


EXAMPLE = (Path(__file__).parents[2] / "config.example.yaml").read_text(encoding="utf-8")
SCRAPS = ["\n", "  ", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", "!!int ", "? ", "| ", "'",
          '"', "\t", "#", "${", "}", "off", "null", "1", "~", "---\n", "\\", "databases:", "dsn:"]  # fmt: skip


@settings(max_examples=150)
@given(data=st.data())
def test_no_text_gives_anything_but_a_configuration_or_faults(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "".join(line for line in EXAMPLE.splitlines(keepends=True) if "# " not in line)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 12))
        text = text[:start] + data.draw(st.sampled_from(SCRAPS)) + text[end:]
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_text(text, encoding="utf-8")

    message = "loaded"
    try:
        load_config(path, {"CHATQUEUE_DSN": "host=db password=hunter2"})
    except ConfigError as error:
        message = str(error)

    assert message
    assert "hunter2" not in message
