# ruff: noqa: E501
"""The report: what is asked of Prometheus, what follows from the answers, and how it reads."""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from exporter.cli.report import report as command
from exporter.config import load_config
from exporter.config.prometheus import Prometheus
from exporter.metrics.figures import Figure
from exporter.ops.report.advice import advise
from exporter.ops.report.criteria import CRITERIA, Check, Criterion, Scope
from exporter.ops.report.document import Report, as_json
from exporter.ops.report.evaluation import Finding, Judged, judge, worst
from exporter.ops.report.markdown import escape, render_markdown
from exporter.ops.report.page import render_page
from exporter.ops.report.plots import draw
from exporter.ops.report.prometheus import Client, PrometheusError, PrometheusUnreachable
from tests.prometheus_fake import Answer, Fake, Reply, matrix, reply, run_fake, vector

ROOT = Path(__file__).parents[2]
BEGUN = datetime(2024, 1, 1, 8, tzinfo=UTC)
SCOPE = Scope('database=~"main"', BEGUN.timestamp(), 86400)
CHECK = Check("things", Figure("a", "things", "a_metric"), value="VALUE", plot="PLOT")


def client(url: str, **keys: Any) -> Client:
    settings = Prometheus.model_validate({"url": url, "timeout": "1s", **keys})
    return Client(settings)


def answers(
    value: Reply, limit: Reply | None = None, seen: float = 1.0, before: float = 1.0
) -> Answer:
    """Answer the four questions of one check."""

    def answer(path: str, parameters: Mapping[str, str]) -> Reply:
        if path.endswith("query_range"):
            return matrix((BEGUN.timestamp(), 1.0))
        query = parameters["query"]
        if "present_over_time" in query:
            is_before = float(parameters["time"]) == BEGUN.timestamp()
            return vector(before if is_before else seen)
        return (limit or vector()) if query == "LIMIT" else value

    return answer


def judge_one(answer: Answer, check: Check = CHECK) -> Finding:
    """Judge one check over HTTP."""
    with run_fake(answer) as fake, client(fake.url) as asks:
        ((finding,),) = (
            each.findings for each in judge([Criterion("k", "t", (check,))], asks, SCOPE)
        )
    return finding


COMPARED = replace(CHECK, limit="LIMIT", is_compared=True)
LEAST = replace(CHECK, limit="1", relation="at least")
BY_CHECK = vector(0, 3, 2, labels=[{"check": "a"}, {"check": "b"}, {"check": "c"}])
CASES: dict[str, tuple[Answer, Check, str, str]] = {
    "good": (answers(vector(0)), CHECK, "pass", "0, good is at most 0"),
    "bad": (answers(vector(2)), CHECK, "fail", "2, good is at most 0"),
    "bad by label": (answers(BY_CHECK), CHECK, "fail", "3 (b 3, c 2), good is at most 0"),
    "bad and hardly seen": (answers(vector(2), seen=0.1), CHECK, "fail", "2, good is at most 0"),
    "good and hardly seen": (
        answers(vector(0), seen=0.9499),
        CHECK,
        "unknown",
        "0, good is at most 0, but only 95% of the time was seen, 95% needed",
    ),
    "never seen": (
        answers(vector(0), seen=0), CHECK, "unknown", "no data: a_metric was never there",
    ),
    "NaN": (answers(vector("NaN")), CHECK, "unknown", "not to be judged: there was nothing to judge"),
    "infinite": (
        answers(vector("+Inf")), CHECK, "unknown", "not to be judged: there was nothing to judge",
    ),
    "one of several is none": (
        answers(vector(0, "NaN", labels=[{"a": "1"}, {"a": "2"}])),
        CHECK,
        "unknown",
        "not to be judged: there was nothing to judge",
    ),
    "empty": (answers(vector()), CHECK, "unknown", "not to be judged: there was nothing to judge"),
    "enough": (answers(vector(1)), LEAST, "pass", "1, good is at least 1"),
    "too little": (answers(vector(0.5)), LEAST, "fail", "0.50, good is at least 1"),
    "as before": (answers(vector(9), vector(9.0)), COMPARED, "pass", "9, good is at most 9"),
    "more than before": (answers(vector(9.2), vector(9.0)), COMPARED, "fail", "9.20, good is at most 9"),
    "no before": (
        answers(vector(0), vector(9), before=0.2),
        COMPARED,
        "unknown",
        "nothing to compare with: 20% of the 1d before was seen",
    ),
    "no limit": (answers(vector(0)), COMPARED, "unknown", "the limit is unknown"),
    "a limit that is none": (
        answers(vector(0), vector("NaN")), COMPARED, "unknown", "the limit is unknown",
    ),
    "a disabled limit": (
        answers(vector(7), vector("+Inf")), COMPARED, "unknown", "the limit is unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "check", "verdict", "evidence"), CASES.values(), ids=CASES)
def test_a_check_is_judged_by_value_limit_and_coverage(
    answer: Answer, check: Check, verdict: str, evidence: str
) -> None:
    finding = judge_one(answer, check)

    assert (finding.verdict, finding.evidence) == (verdict, evidence)


NOT_OURS = "its answer is not one of Prometheus's"
BROKEN: dict[str, tuple[Reply, str]] = {
    "500": (reply(b"boom", 500), "it answered 500"),
    "503 in its words": (
        reply({"status": "error", "error": "starting"}, 503), "it answered 503: starting",
    ),
    "422": (reply({"status": "error", "error": "x" * 999}, 422), "it answered 422: " + "x" * 298),
    "error that is no text": (reply({"error": {"a": 1}}, 400), "it answered 400"),
    "redirect": (
        reply(b"", 302, Location="http://127.0.0.1:1/"),
        "it answered 302, and redirects are not followed",
    ),
    "unauthorized": (reply(b"", 401), "it answered 401"),
    "garbage": (reply(b"\xff<html>"), NOT_OURS),
    "deep": (reply(b"[" * 100_000), NOT_OURS),
    "empty body": (reply(b""), NOT_OURS),
    "another document": (reply({"hello": 1}), NOT_OURS),
    "a list": (reply([]), NOT_OURS),
    "failure with 200": (reply({"status": "error", "data": {"resultType": "vector"}}), NOT_OURS),
    "a scalar": (
        reply({"status": "success", "data": {"resultType": "scalar", "result": [0, "0"]}}), NOT_OURS,
    ),
    "no number": (vector("zero"), NOT_OURS),
    "no time": (
        reply(
            {
                "status": "success",
                "data": {
                    "resultType": "vector", "result": [{"metric": {}, "value": ["NaN", "0"]}]
                },
            }
        ),
        NOT_OURS,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "words"), BROKEN.values(), ids=BROKEN)
def test_an_answer_that_is_none_is_unknown_and_never_a_pass(broken: Reply, words: str) -> None:
    finding = judge_one(lambda *_: broken)

    assert finding.verdict == "unknown"
    assert finding.evidence == f"Prometheus could not be queried: {words}"


def test_after_no_answer_nothing_more_is_asked() -> None:
    closing = threading.Event()

    def hang(*_: object) -> Reply:
        closing.wait(20)
        return reply(b"")

    with run_fake(hang) as fake, client(fake.url) as asks:
        judged = judge(CRITERIA, asks, SCOPE)
        asked = len(fake.asked)
        closing.set()

    assert asked == 1
    assert {each.verdict for each in judged} == {"unknown"}
    evidence = {finding.evidence for each in judged for finding in each.findings}
    assert evidence == {"Prometheus could not be queried: it did not answer in time"}


def test_a_server_that_is_not_there_is_said_without_its_url() -> None:
    with (
        client("http://127.0.0.1:1/s3cret") as asks,
        pytest.raises(PrometheusUnreachable) as caught,
    ):
        asks.query("1", 0)

    assert str(caught.value) == "no answer (ConnectionError)"


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.ops.report.prometheus._LIMIT_BYTES", 10)
    with (
        run_fake(lambda *_: vector(1)) as fake,
        client(fake.url) as asks,
        pytest.raises(PrometheusError, match="too large"),
    ):
        asks.query("1", 0)


def test_an_answer_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = itertools.count(0, 99)
    clock = SimpleNamespace(monotonic=lambda: next(moments))
    monkeypatch.setattr("exporter.ops.report.prometheus.time", clock)
    with (
        run_fake(lambda *_: vector(1)) as fake,
        client(fake.url) as asks,
        pytest.raises(PrometheusUnreachable, match="in time"),
    ):
        asks.query("1", 0)


def test_without_a_url_nothing_can_be_asked() -> None:
    with pytest.raises(PrometheusUnreachable, match=r"no prometheus.url"):
        Client(Prometheus())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"bearer_token": "t0ken"}, "Bearer t0ken"),
        (
            {"username": "zoë", "password": "pä:ss"},
            "Basic " + base64.b64encode("zoë:pä:ss".encode()).decode(),
        ),
        ({"username": "u"}, "Basic " + base64.b64encode(b"u:").decode()),
    ],
)
def test_it_authenticates_as_configured(
    keys: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with run_fake(lambda *_: vector(1)) as fake, client(fake.url + "/prefix/", **keys) as asks:
        asks.query("up", 12.5)

    assert fake.headers[0].get("Authorization") == expected
    assert fake.asked == [("/prefix/api/v1/query", {"query": "up", "time": "12.500"})]


def test_every_metric_of_the_criteria_is_one_of_ours_and_filtered_by_database() -> None:
    documented = set(re.findall(r"`(chatqueue_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    named = set()
    for check in (check for criterion in CRITERIA for check in criterion.checks):
        for text in (check.value, check.plot, check.limit):
            expression = check.fill(text, SCOPE)
            assert "$" not in expression
            selectors = re.findall(r"(chatqueue_\w+)(\{[^}]*\})?", expression)
            named |= {name for name, _ in selectors}
            for name, matchers in selectors:
                assert ('database=~"main"' in matchers) == (name != "chatqueue_log_events_total")

    assert named - documented == set()
    assert len(named) > 10


def test_the_worst_verdict_counts() -> None:
    assert worst(["pass", "unknown", "fail"]) == "fail"
    assert worst(["pass", "unknown"]) == "unknown"
    assert worst(["pass"]) == "pass"
    assert worst([]) == "unknown"


def finding(verdict: Any, evidence: str = "because", check: Check = CHECK, **keys: Any) -> Finding:
    found = Finding(check, verdict, 3.0, 0.0, 1.0, evidence, "up{}", check.limit)
    return replace(found, **keys)


def judged(*verdicts: Any) -> tuple[Judged, ...]:
    return tuple(
        Judged(Criterion(f"k{i}", f"Criterion {i}", (CHECK,)), verdict, (finding(verdict),))
        for i, verdict in enumerate(verdicts)
    )


UNTIL = BEGUN + timedelta(hours=4)
EARLY = BEGUN + timedelta(hours=1)
LEFT = "3h are left, until 2024-01-01 12:00 UTC"


@pytest.mark.parametrize(
    ("verdicts", "at", "course", "summary", "reasons"),
    [
        (("pass", "pass"), EARLY, "keep", f"No reason to roll back; {LEFT}.", ()),
        (
            ("pass", "unknown", "fail"),
            EARLY,
            "roll back",
            f"Roll back, or know why not: {LEFT}.",
            ("Criterion 2: things: because",),
        ),
        (
            ("unknown", "pass"),
            EARLY,
            "look closer",
            f"Nothing fails, but not everything is known: {LEFT} to find out.",
            ("Criterion 0: things: because",),
        ),
        (
            (),
            EARLY,
            "look closer",
            f"Nothing fails, but not everything is known: {LEFT} to find out.",
            (),
        ),
        (
            ("fail",),
            UNTIL,
            "too late",
            "The rollback deadline passed at 2024-01-01 12:00 UTC; what fails has to be repaired going forward.",
            ("Criterion 0: things: because",),
        ),
        (
            ("pass",),
            UNTIL,
            "too late",
            "The rollback deadline passed at 2024-01-01 12:00 UTC; nothing fails.",
            (),
        ),
    ],
)
def test_a_rollback_is_advised_while_there_is_time_and_a_reason(
    verdicts: tuple[str, ...], at: datetime, course: str, summary: str, reasons: tuple[str, ...]
) -> None:
    advice = advise(judged(*verdicts), at, UNTIL)

    assert (advice.course, advice.summary, advice.reasons) == (course, summary, reasons)


EVIL = "<script>alert(1)</script> & | `x` \"y\" 'z' *b*\n# heading"


def make_report(*made: Judged, at: datetime = EARLY) -> Report:
    return Report(
        (EVIL,), BEGUN, BEGUN + timedelta(days=1), at, UNTIL, made, advise(made, at, UNTIL)
    )


class _Tags(HTMLParser):
    """Every tag of a page, and what has to be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "polygon", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_self_contained_and_escapes_everything() -> None:
    check = replace(CHECK, asks=EVIL, unit="ratio", limit=EVIL)
    points = ((EARLY.timestamp() - 60, 0.5), (EARLY.timestamp(), 0.2))
    bad = finding("fail", EVIL, check, expression=EVIL, points=points, limit=0.3)
    page = render_page(make_report(Judged(Criterion("k", EVIL, (check,)), "fail", (bad,))))
    tags = _Tags()
    tags.feed(page)

    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.seen}
    assert "alert(1)</script>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    assert not re.search(r"https?:|url\(|@import", page)
    assert ("meta", {"http-equiv": "Content-Security-Policy",
                     "content": "default-src 'none'; style-src 'unsafe-inline'"}) in tags.seen  # fmt: skip
    assert {"svg", "polyline", "details"} <= {tag for tag, _ in tags.seen}
    assert page.count('class="limit"') == 1


def test_the_markdown_escapes_everything_and_keeps_its_tables() -> None:
    check = replace(CHECK, asks=EVIL)
    made = Judged(Criterion("k", EVIL, (check,)), "fail", (finding("fail", EVIL, check),))
    text = render_markdown(make_report(made))

    assert not re.search(r"(?<!\\)<", text)
    assert escape("a|b <c>") == r"a\|b \<c\>"
    for line in text.splitlines():
        if line.startswith("| ✘ | \\<script"):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) in (5, 8)
    assert "| Users are as satisfied as before. | open |  |  |  |" in text
    assert "| On-call engineer | open |  |  |  |" in text


def test_the_json_says_it_all() -> None:
    made = Judged(Criterion("k", "t", (CHECK,)), "pass", (finding("pass", "fine", limit=None),))
    document = json.loads(json.dumps(as_json(make_report(made)), allow_nan=False))

    assert document["verdict"] == "pass"
    assert document["advice"]["course"] == "keep"
    assert document["criteria"] == [
        {
            "key": "k",
            "title": "t",
            "verdict": "pass",
            "checks": [
                {
                    "asks": "things",
                    "verdict": "pass",
                    "value": 3.0,
                    "relation": "at most",
                    "limit": None,
                    "coverage": 1.0,
                    "evidence": "fine",
                    "expression": "up{}",
                    "limit_expression": "0",
                }
            ],
        }
    ]


def test_a_plot_shows_gaps_and_nothing_where_there_is_nothing_to_see() -> None:
    since = BEGUN.timestamp()
    points = tuple((since + 60 * i, float(i % 3)) for i in (0, 1, 2, 10, 11, 12))

    assert draw(finding("fail", points=points), since, since + 3600, 60).count("<polyline") == 2
    assert draw(finding("fail"), since, since + 3600, 60) == ""
    assert draw(finding("fail", points=points), since, since, 60) == ""
    flat = tuple((at, 0.0) for at, _ in points)
    assert draw(finding("pass", points=flat), since, since + 3600, 60) == ""
    assert "<polyline" in draw(finding("unknown", points=flat), since, since + 86400 * 90, 60)


def write_config(folder: Path, url: str | None, **watch: object) -> Path:
    """A configuration whose watch lies in the past."""
    prometheus = {"url": url, "timeout": "5s"} if url else {}
    file = folder / "chatqueue.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "databases": {"main": {"dsn": "host=db"}, "o.ther": {"dsn": "host=db"}},
                "watch": {"started_at": "2024-01-01T08:00:00Z", **watch},
                "prometheus": prometheus,
            }
        )
    )
    return file


def run(file: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, ["--config.file", str(file), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def all_well(path: str, parameters: Mapping[str, str]) -> Reply:
    """A Prometheus that has seen nothing but good."""
    query = parameters["query"]
    if path.endswith("query_range"):
        return matrix((BEGUN.timestamp(), 1.0))
    if "chatqueue_watch_" in query:  # none was started by command
        return vector()
    return vector(1) if "present_over_time" in query or "> 0" in query[-4:] else vector(0)


def broken_queue(path: str, parameters: Mapping[str, str]) -> Reply:
    if "chatqueue_invalid_chats" in parameters["query"] and "by (check)" in parameters["query"]:
        return vector(3, labels=[{"check": "lost_reply"}])
    return all_well(path, parameters)


@pytest.mark.parametrize(
    ("answer", "code", "verdict"),
    [
        (all_well, 0, "pass"),
        (broken_queue, 1, "fail"),
        (lambda *_: reply(b"no", 500), 3, "unknown"),
    ],
)
def test_the_exit_code_is_the_verdict(
    answer: Answer, code: int, verdict: str, tmp_path: Path
) -> None:
    with run_fake(answer) as fake:
        file = write_config(tmp_path, fake.url)
        plain = run(file)
        page = run(file, "--format", "html", "--output", str(tmp_path / "r.html"))
        document = run(file, "--format", "json")

    assert plain[0] == page[0] == document[0] == code
    assert plain[1].startswith(f"# Deployment report: {verdict}\n")
    assert page[1] == ""
    assert f"<title>Deployment report: {verdict}</title>" in (tmp_path / "r.html").read_text()
    assert json.loads(document[1])["verdict"] == verdict


def _asked(fake: Fake) -> set[str]:
    return {
        parameters["time"]
        for _, parameters in fake.asked
        if "time" in parameters and "chatqueue_watch_" not in parameters["query"]
    }


def test_any_time_and_any_watch_can_be_judged(tmp_path: Path) -> None:
    with run_fake(all_well) as fake:
        file = write_config(tmp_path, fake.url)
        at = ["--at", "2024-01-01T10:00:00+01:00", "--database", "o.ther"]
        early = run(file, *at, "--format", "json")
        asked = _asked(fake)
        other = run(file, "--started-at", "2023-05-01T00:00:00Z", "--for", "2h", "--format", "json")

    assert json.loads(early[1])["at"] == "2024-01-01T09:00:00+00:00"
    assert json.loads(early[1])["databases"] == ["o.ther"]
    assert asked == {"1704099600.000", "1704096000.000"}
    queries = [parameters["query"] for _, parameters in fake.asked]
    assert any(r'database=~"o\\.ther"' in query for query in queries)
    assert json.loads(other[1])["at"] == "2023-05-01T02:00:00+00:00"


REFUSALS: dict[str, tuple[list[str], dict[str, object], str]] = {
    "before": (
        ["--at", "2024-01-01T08:00:00Z"], {},
        "--at 2024-01-01T08:00:00+00:00 is not within the watch, expected a time after 2024-01-01T08:00:00+00:00, at most 2024-01-02T08:00:00+00:00",
    ),
    "after": (["--at", "2024-01-02T08:00:01Z"], {}, "is not within the watch"),
    "no zone": (["--at", "2024-01-01T09:00:00"], {}, "has no zone, expected a time with its zone"),
    "no time": (["--started-at", "soon"], {}, "'soon' is not a time, expected a time with its zone"),
    "no length": (["--for", "0"], {}, "0 is too short, expected a duration"),
    "a long word": (["--for", "a day"], {}, "'a day' is not a duration"),
    "no watch": ([], {"started_at": None}, "there is no watch, expected chatqueue watch start,"),
    "in the future": (
        ["--at", "2999-01-01T09:00:00Z"], {"started_at": "2999-01-01T08:00:00Z"},
        "--at 2999-01-01T09:00:00+00:00 is in the future",
    ),
    "not begun": ([], {"started_at": "2999-01-01T08:00:00Z"}, "nothing to judge yet"),
    "database": (
        ["--database", "x"], {}, "--database x is not configured, expected one of main, o.ther",
    ),
    "no prometheus": ([], {}, "no Prometheus is configured, expected prometheus.url"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "watch", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_judged_is_refused_with_a_code_of_its_own(
    arguments: list[str], watch: dict[str, object], words: str, tmp_path: Path
) -> None:
    code, output = run(write_config(tmp_path, None, **watch), *arguments)

    assert code == 2
    assert words in output


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with run_fake(all_well) as fake:
        file = write_config(tmp_path, fake.url)
        code, output = run(file, "--output", str(tmp_path / "nowhere" / "r.md"))

    assert code == 2
    assert "No such file or directory" in output


def test_secrets_come_from_files_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken\n")
    file = tmp_path / "chatqueue.yaml"
    base = "databases: {main: {dsn: host=db}}\n"
    file.write_text(base + "prometheus: {url: 'http://db:9090', bearer_token_file: token}\n")
    settings = load_config(file).prometheus

    assert settings.bearer_token is not None
    assert settings.bearer_token.get_secret_value() == "t0ken"
    assert "t0ken" not in repr(settings)
    assert settings.bearer_token_file == tmp_path / "token"
