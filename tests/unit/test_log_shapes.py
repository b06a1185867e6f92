"""One error in the shapes of real shippers: each is judged, opened or refused with a reason."""

# ruff: noqa: E501  # lines stand whole, as shippers send them
from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from exporter.logs.bodies import read_entries
from exporter.logs.entries import MAX_TEXT_CHARS, read_line, read_object
from exporter.logs.envelopes import Budget, LogsRefused, open_line
from exporter.logs.patterns import OTHER, build_judge

JUDGE = build_judge({})
FAILED = "chat assignment failed"
ERROR = ("assignment_error", "error")
RECORD = {"level": "error", "message": FAILED}


def pack(text: str, *, zipped: bool = False) -> str:
    data = text.encode()
    return base64.b64encode(gzip.compress(data) if zipped else data).decode()


LINES = {
    "container runtime": {"log": f"ERROR {FAILED}\n", "stream": "stderr", "time": "2026-11-27"},
    "container runtime around JSON": {"log": json.dumps(RECORD) + "\n", "stream": "stdout"},
    "journal": {"MESSAGE": FAILED, "PRIORITY": "3"},
    "journal's default level": {"MESSAGE": f"ERROR {FAILED}", "PRIORITY": "6"},
    "Google": {"severity": "ERROR", "textPayload": FAILED},
    "Google, structured": {"severity": "ERROR", "jsonPayload": {"message": FAILED}},
    "Google, numbered": {"severity": 500, "textPayload": FAILED},
    "Serilog": {"@t": "2026-11-27", "@mt": FAILED, "@l": "Error"},
    "Serilog, full": {"Level": "Error", "RenderedMessage": FAILED},
    "GELF": {"version": "1.1", "short_message": FAILED, "level": 3},
    "GELF, full": {"short_message": "failure", "full_message": FAILED, "level": 3},
    "ECS": {"log.level": "error", "message": FAILED},
    "ECS, nested": {"log": {"level": "error"}, "error": {"message": FAILED}},
    "Monolog": {"message": FAILED, "level": 400, "level_name": "ERROR"},
    "logback": {"message": FAILED, "level_value": 40000},
    "java.util.logging": {"message": FAILED, "level": 1000},
    "Python": {"msg": FAILED, "levelno": 40},
    "pino": {"level": 50, "msg": FAILED},
    "bunyan, as text": {"level": "60", "msg": FAILED, "v": 0},
    ".NET": {"LogLevel": 4, "Message": FAILED},
    ".NET, by name": {"LogLevel": "Critical", "State": {"Message": FAILED}},
    "Azure": {"severityLevel": 3, "message": FAILED},
    "Azure resource": {"resourceId": "/X", "level": 2, "properties": {"log": FAILED}},
    "OTLP": {"severityNumber": 17, "body": {"stringValue": FAILED}},
    "OTLP, keys and values": {
        "severityText": "ERROR2",
        "body": {"kvlistValue": {"values": [{"key": "msg", "value": {"stringValue": FAILED}}]}},
    },
    "OTLP, exception": {
        "severityNumber": 18,
        "body": {"stringValue": "unhandled"},
        "attributes": [{"key": "exception.message", "value": {"stringValue": FAILED}}],
    },
    "Datadog": {"status": "error", "message": FAILED, "ddsource": "node"},
    "a list of words": {"Level": "error", "Message": ["chat", "assignment", "failed"]},
    "no message": {"level": "error", "what": FAILED},
    "no message, nested": {"level": "error", "a": {"b": [{"c": FAILED}]}},
    "a blank message": {"level": "error", "message": "\n", "what": FAILED},
    "a numbered message": {"level": "error", "message": 7, "what": FAILED},
    "an error object": {"level": "error", "message": "x", "err": {"cause": {"message": FAILED}}},
    "errors": {"level": "error", "message": "x", "errors": [{"message": FAILED}]},
}


@pytest.mark.parametrize("value", LINES.values(), ids=LINES)
def test_an_error_in_any_shape_is_seen(value: dict[str, Any]) -> None:
    events = [JUDGE.judge(entry) for entry in open_line(json.dumps(value), Budget())]

    assert events == [ERROR]
    assert JUDGE.judge(read_object(value)) == ERROR


TEXTS = {
    "a blank and a cross": f" \u2a2f Error: {FAILED}",
    "another cross": f"  \u2716 {FAILED}",
    "indented": f"    {FAILED}",
    "a tab and a level": f"\tERROR {FAILED}",
    "container runtime": f"2026-11-27T02:00:00.000000001Z stderr F ERROR {FAILED}",
    "container runtime around JSON": "2026-11-27T02:00:00Z stdout F " + json.dumps(RECORD),
    "syslog": f"<11>1 2026-11-27T02:00:00Z host app 1 - - {FAILED}",
    "syslog's default level": f"<190>1 2026-11-27T02:00:00Z host app 1 - - ERROR {FAILED}",
    "syslog around JSON": "<14>Nov 27 02:00:00 host app[1]: " + json.dumps(RECORD),
    "octet count": f"83 <11>1 2026-11-27T02:00:00Z host app web.1 - {FAILED}",
    "glog": f"E1127 02:00:00.000000 1 chat.go:7] {FAILED}",
    ".NET": f"fail: Chat.Assigner[0] {FAILED}",
    "Serilog": f"[02:00:00 ERR] {FAILED}",
    "compose": f"app_1  | {json.dumps(RECORD)}",
}


@pytest.mark.parametrize("line", TEXTS.values(), ids=TEXTS)
def test_an_error_in_any_line_of_text_is_seen(line: str) -> None:
    assert JUDGE.judge(read_line(line)) == ERROR


@pytest.mark.parametrize(
    "line",
    [
        "    at assignChat (assignment-error.js:3)",
        "\tat chat.Assigner.assign(AssignError.java:7)",
        "\t... 7 more assign errors",
        '  File "/app/assign_error.py", line 3, in assign',
        "2026-11-27T02:00:00Z stderr F     at assignChat (assignment-error.js:3)",
        json.dumps({"log": "    at assignChat (assignment-error.js:3)\n", "stream": "stderr"}),
    ],
)
def test_a_line_of_a_stack_trace_is_part_of_the_one_before(line: str) -> None:
    assert JUDGE.judge(read_line(line)) == (OTHER, "other")


LEVELS = {
    "syslog": ("level", {0: "error", 3: "error", 4: "warning", 5: "info", 6: "info", 7: "debug"}),
    "pino": ("level", {10: "debug", 20: "debug", 30: "info", 40: "warning", 50: "error"}),
    "Monolog": ("level", {100: "debug", 250: "info", 300: "warning", 550: "error"}),
    "Java": ("level", {700: "info", 900: "warning", 1000: "error"}),
    "journal": ("PRIORITY", {"2": "error", "4": "warning", "6": "info", "7": "debug"}),
    "OTLP": ("severityNumber", {1: "debug", 9: "info", 13: "warning", 21: "error"}),
    "Google": ("severity", {100: "debug", 200: "info", 400: "warning", 600: "error"}),
    ".NET": ("LogLevel", {1: "debug", 2: "info", 3: "warning", 5: "error", 6: "other"}),
    "Azure": ("severityLevel", {0: "debug", 1: "info", 2: "warning", 4: "error"}),
    "Python": ("levelno", {10: "debug", 20: "info", 30: "warning", 50: "error"}),
    "words": (
        "level",
        {"Verbose": "debug", "Informational": "info", "WRN": "warning", "Fatal": "error"},
    ),
    "letters": ("level", {"D": "debug", "I": "info", "W": "warning", "E": "error"}),
}


@pytest.mark.parametrize(
    ("key", "value", "level"),
    [(key, value, level) for key, levels in LEVELS.values() for value, level in levels.items()],
)
def test_a_level_is_read_by_the_standard_of_its_shape(key: str, value: Any, level: str) -> None:
    assert read_object({key: value, "message": "x"}).level == level


def test_words_of_a_level_are_no_part_of_the_text() -> None:
    value = {"level": "error", "operation": "assign", "a": {"severity": "error"}}

    assert JUDGE.judge(read_object(value)) == (OTHER, "error")


CLOUD_WATCH = {
    "messageType": "DATA_MESSAGE",
    "logGroup": "/chat",
    "logEvents": [{"id": "1", "timestamp": 1, "message": f"ERROR {FAILED}"}] * 2,
}
OTLP = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]},
            "scopeLogs": [
                {"scope": {}, "logRecords": [LINES["OTLP"], LINES["OTLP, keys and values"]]}
            ],
        }
    ]
}
ENVELOPES: dict[str, Any] = {
    "records": {"records": [RECORD, json.dumps(RECORD)]},
    "logs": {"logs": [RECORD, RECORD]},
    "New Relic": [{"common": {"attributes": {"host": "x"}}, "logs": [RECORD, RECORD]}],
    "logEvents": CLOUD_WATCH,
    "awslogs": {"awslogs": {"data": pack(json.dumps(CLOUD_WATCH), zipped=True)}},
    "Firehose": {"requestId": "1", "timestamp": 1, "records": [{"data": pack(f"ERROR {FAILED}")}] * 2},
    "Firehose with many in one": {
        "requestId": "1",
        "records": [{"data": pack(json.dumps(RECORD) * 2)}],
    },
    "Firehose with lines": {"records": [{"data": pack(f"ERROR {FAILED}\nERROR {FAILED}\n")}]},
    "Firehose with CloudWatch": {
        "requestId": "1",
        "records": [{"data": pack(json.dumps(CLOUD_WATCH), zipped=True)}],
    },
    "Kinesis": {"Records": [{"kinesis": {"data": pack(json.dumps(RECORD))}}] * 2},
    "Pub/Sub": {
        "receivedMessages": [{"message": {"data": pack(json.dumps(RECORD)), "messageId": "1"}}] * 2
    },
    "OTLP": OTLP,
    "Loki": {"streams": [{"stream": {"level": "error"}, "values": [["1", FAILED], ["2", FAILED, {"a": "b"}]]}]},
    "Loki, old": {"streams": [{"labels": "{}", "entries": [{"ts": "1", "line": f"ERROR {FAILED}"}] * 2}]},
    "Workers": {"Outcome": "ok", "Logs": [{"Level": "error", "Message": [FAILED]}] * 2},
    "Splunk": [{"event": f"ERROR {FAILED}", "time": 1}, {"event": RECORD}],
    "an unknown key": {"batchOfMine": [RECORD, RECORD]},
    "an unknown key below another": {"result": {"found": [RECORD, RECORD]}},
    "a message beside records": {**RECORD, "records": [RECORD]},
    "a text beside unknown records": {"level": "error", "what": FAILED, "mine": [{"x": FAILED}]},
    "envelopes in envelopes": {"records": [{"records": [{"records": [RECORD, RECORD]}]}]},
}  # fmt: skip


@pytest.mark.parametrize("value", ENVELOPES.values(), ids=ENVELOPES)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_an_envelope_is_opened(value: Any, content_type: str) -> None:
    entries = read_entries(json.dumps(value).encode(), content_type)

    assert [JUDGE.judge(entry) for entry in entries] == [ERROR, ERROR]


def test_envelopes_one_per_line_are_opened() -> None:
    body = "\n".join([json.dumps(OTLP), json.dumps(CLOUD_WATCH), json.dumps(RECORD)])
    events = [JUDGE.judge(entry) for entry in read_entries(body.encode(), "application/x-ndjson")]

    assert events == [ERROR] * 5


def nested(depth: int) -> Any:
    value: Any = RECORD
    for _ in range(depth):
        value = {"records": [value]}
    return value


BINARY = base64.b64encode(bytes(range(128, 200))).decode()
ZIPPED = base64.b64encode(gzip.compress(b"x" * 100)[:-4]).decode()
BOMB = base64.b64encode(gzip.compress(b" " * 5_000_000)).decode()
REFUSED = {
    "numbers": ({"records": [1, 2]}, 400, "entry 1 is neither, expected an object or a text"),
    "nothing": ({"logs": [None]}, 400, "entry 1 is neither, expected an object or a text"),
    "binary": (
        {"records": [{"data": BINARY}]},
        400,
        "entry 1 holds data that is no text, expected text or gzip of it in base64",
    ),
    "half a gzip": (
        {"awslogs": {"data": ZIPPED}},
        400,
        "entry 1 does not end with its gzip data, expected one gzip member",
    ),
    "bomb": ({"records": [{"data": BOMB}]}, 413, "too much, expected at most 4096 KiB unpacked"),
    "bombs": (
        {"records": [{"data": pack("x" * 1_500_000, zipped=True)}] * 3},
        413,
        "too much, expected at most 4096 KiB unpacked",
    ),
    "too deep": (nested(14), 400, "entry 1 holds envelopes in more than 12 others"),
}


@pytest.mark.parametrize(("value", "status", "message"), REFUSED.values(), ids=REFUSED)
def test_an_envelope_that_cannot_be_opened_is_refused(
    value: Any, status: int, message: str
) -> None:
    with pytest.raises(LogsRefused) as refused:
        list(read_entries(json.dumps(value).encode(), "application/json"))

    assert (refused.value.status, str(refused.value)) == (status, message)
    with pytest.raises(LogsRefused):
        list(open_line(json.dumps(value), Budget()))


@pytest.mark.parametrize(
    "value",
    [
        {str(number): FAILED for number in range(100_000)},
        {"a": "x" * 1_000_000},
        {"a": [[[[[[[[[[[[[[[[[[[[FAILED]]]]]]]]]]]]]]]]]]]]},
    ],
    ids=["wide", "long", "deep"],
)
def test_the_strings_of_an_object_are_bounded(value: dict[str, Any]) -> None:
    assert len(read_object(value).text) <= MAX_TEXT_CHARS
