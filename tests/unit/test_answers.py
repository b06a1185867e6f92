"""What people answer: the file, the questions on a terminal, and how the report shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import answers as cli
from exporter.errors import ConfigError
from exporter.ops.report.advice import Advice
from exporter.ops.report.answers import (
    SECTIONS,
    Answer,
    Answers,
    fill_in,
    read_answers,
    write_answers,
)
from exporter.ops.report.document import Report, as_json
from exporter.ops.report.markdown import render_markdown
from exporter.ops.report.page import render_page

AT = datetime(2026, 11, 23, 8, tzinfo=UTC)
YES = Answer(answer="yes", by="A. <b>", at=AT, note='all "three" shifts # asked')
EMPTY = Report(("main",), AT, AT + timedelta(1), AT + timedelta(1), AT, (), Advice("keep", "Good."))


def answer_all(answer: Answer) -> Answers:
    given = Answers()
    for line in given.lines:
        given = fill_in(given, line, answer)
    return given


def test_the_file_that_is_written_to_be_filled_in_is_open_and_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "answers.yaml"
    write_answers(file, Answers())

    assert read_answers(file) == Answers()
    assert Answers().state == "open"
    text = file.read_text()
    assert all(words in text for kind in SECTIONS.values() for words in kind.values())


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "answers.yaml"
    write_answers(file, answer_all(YES))

    assert read_answers(file) == answer_all(YES)
    assert list(tmp_path.iterdir()) == [file]


def test_only_a_yes_to_every_line_is_signed_off() -> None:
    every = answer_all(YES)
    assert every.state == "signed off"
    for line in every.lines:
        assert fill_in(every, line, Answer()).state == "open"
        no = YES.model_copy(update={"answer": "no"})
        assert fill_in(every, line, no).state == "refused"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statements: {operators: {answer: maybe, by: A, at: 2026-11-23T08:00:00Z}}", "yes or no"),
        ("statements: {operators: {answer: yes, at: 2026-11-23T08:00:00Z}}", "without a name"),
        ("statements: {operators: {answer: yes, by: A}}", "without a time"),
        ("statements: {operators: {answer: yes, by: A, at: 2026-11-23}}", "has no zone"),
        ("statements: {operator: {answer: yes}}", "did you mean operators?"),
        ("sign_off: {}", "did you mean sign_offs?"),
    ],
)
def test_a_fault_names_file_line_and_what_is_expected(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "answers.yaml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"answers\.yaml:1: s.*expected") as caught:
        read_answers(file)
    assert message in str(caught.value)


def test_every_form_of_the_report_shows_answers_and_what_is_open() -> None:
    line = Answers().lines[0]
    report = replace(EMPTY, answers=fill_in(Answers(), line, YES))

    markdown, page, people = render_markdown(report), render_page(report), as_json(report)["people"]
    assert "## For people to judge: open" in markdown
    assert f"| {line.words} | ✔ yes | A. \\<b\\> | 2026-11-23 08:00" in markdown
    assert markdown.count("| open |") == page.count(">open</span></td>") == 8
    assert "<td>A. &lt;b&gt;</td>" in page
    assert people["state"] == "open"
    assert people["lines"][0] == {
        "section": "statements",
        "key": "operators",
        "words": line.words,
        "answer": "yes",
        "by": "A. <b>",
        "at": "2026-11-23T08:00:00+00:00",
        "note": 'all "three" shifts # asked',
    }
    assert {each["answer"] for each in people["lines"][1:]} == {"open"}


def test_piped_nothing_is_asked_and_the_file_is_written(tmp_path: Path) -> None:
    file = tmp_path / "answers.yaml"
    done = CliRunner().invoke(cli.answers, [str(file)])

    assert (done.exit_code, done.output.count("open: ")) == (3, 9)
    assert read_answers(file) == Answers()


def test_on_a_terminal_every_open_line_is_asked_and_kept_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "answers.yaml"
    monkeypatch.setattr("exporter.cli.answers.is_terminal", lambda: True)
    asked = CliRunner().invoke(cli.answers, [str(file)], input="Ann\nyes\nfine\nlater\nno\n")

    assert asked.exit_code == 1  # the input ended in the middle of the third answer's note
    given = [line.given for line in read_answers(file).lines]
    assert [(each.answer, each.by, each.note) for each in given[:3]] == [
        ("yes", "Ann", "fine"),
        (None, None, None),
        (None, None, None),
    ]
    rest = CliRunner().invoke(cli.answers, [str(file)], input="Bo\n" + "yes\n\n" * 8)
    assert rest.exit_code == 0, rest.output
    assert rest.output.endswith(f"signed off; chatqueue report --answers {file} shows it\n")
    assert read_answers(file).lines[0].given.by == "Ann"
    again = CliRunner().invoke(cli.answers, [str(file)])
    assert "Your name" not in again.output
