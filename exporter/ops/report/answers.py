"""What only people can judge: their answers and sign-offs, in a YAML file that they fill in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from exporter.config.document import read_document
from exporter.config.faults import FaultList
from exporter.config.section import Section
from exporter.config.values import Text, fault
from exporter.config.watch import Time
from exporter.errors import ConfigError

STATEMENTS = {
    "operators": "Operators say that chats reach them as before.",
    "users": "Users are as satisfied as before.",
    "alerts": "Every alert of the watch is explained.",
    "repairs": "What was repaired by hand is written down.",
    "rollback": "The rollback was possible until its deadline, and was not needed.",
}
"""What no metric can say, by its key in the file."""

SIGNERS = {
    "on_call": "On-call engineer",
    "engineering": "Engineering lead",
    "operations": "Operations lead",
    "product": "Product owner",
}
"""Who signs the deployment off, by the key in the file."""

_HEAD = """\
# What only people can judge of a deployment. `chatqueue report --answers` shows it beside what was
# measured. An answer has the name of who gave it and its time with a zone, 2026-11-23T08:00:00Z.
# A line without an answer is open, and open is never a pass.
"""


class Answer(Section):
    """One answer; open without `answer`."""

    answer: Literal["yes", "no"] | None = None
    by: Text | None = None
    at: Time | None = None
    note: Text | None = None

    @model_validator(mode="after")
    def _has_a_name_and_a_time(self) -> Answer:
        if self.answer is not None and (self.by is None or self.at is None):
            missing = "name" if self.by is None else "time"
            raise fault(f"has an answer without a {missing}", "answer, by and at", bare=True)
        return self


class Statements(Section):
    """Whether each statement holds."""

    operators: Answer = Field(default=Answer())
    users: Answer = Field(default=Answer())
    alerts: Answer = Field(default=Answer())
    repairs: Answer = Field(default=Answer())
    rollback: Answer = Field(default=Answer())


class SignOffs(Section):
    """Whether each signer approves of the deployment."""

    on_call: Answer = Field(default=Answer())
    engineering: Answer = Field(default=Answer())
    operations: Answer = Field(default=Answer())
    product: Answer = Field(default=Answer())


class Answers(Section):
    """The whole file."""

    statements: Statements = Field(default=Statements())
    sign_offs: SignOffs = Field(default=SignOffs())

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every line, statements first."""
        return tuple(
            Line(section, key, words, getattr(getattr(self, section), key))
            for section, kind in SECTIONS.items()
            for key, words in kind.items()
        )

    @property
    def state(self) -> Literal["open", "refused", "signed off"]:
        """Refused where any answer is no; signed off only where every line has its yes."""
        given = {line.given.answer for line in self.lines}
        if "no" in given:
            return "refused"
        return "open" if None in given else "signed off"


SECTIONS: Mapping[str, Mapping[str, str]] = {"statements": STATEMENTS, "sign_offs": SIGNERS}
"""The lines of the file, by section and key."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line for people.

    Attributes:
        section: `statements` or `sign_offs`.
        key: Its key there.
        words: The statement or the signer's role.
        given: What was answered.
    """

    section: str
    key: str
    words: str
    given: Answer


def read_answers(path: Path) -> Answers:
    """Read a file of answers.

    Raises:
        ConfigError: With every fault of the file.
    """
    document = read_document(path, None, holds="statements and sign_offs", may_be_empty=True)
    faults, answers = FaultList(document, Answers), None
    try:
        answers = Answers.model_validate(document.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add_refusal(detail)
    found = faults.sorted()
    if found or answers is None:
        raise ConfigError(found)
    return answers


def write_answers(path: Path, answers: Answers) -> None:
    """Write the file as people fill it in; one that is there is replaced in one step."""
    new = path.with_name(f".{path.name}.new")
    new.write_text("\n".join((_HEAD.rstrip(), *_text(answers), "")), encoding="utf-8")
    new.replace(path)


def fill_in(answers: Answers, line: Line, answer: Answer) -> Answers:
    """Return the answers with one of them given."""
    section = getattr(answers, line.section).model_copy(update={line.key: answer})
    return answers.model_copy(update={line.section: section})


def _text(answers: Answers) -> Iterator[str]:
    section = ""
    for line in answers.lines:
        if line.section != section:
            section = line.section
            yield f"{section}:"
        yield f"  {line.key}:  # {line.words}"
        for key, value in line.given:
            text = value.isoformat() if isinstance(value, datetime) else value
            yield f"    {key}:{'' if text is None else ' ' + _quote(key, text)}"


def _quote(key: str, text: str) -> str:
    """A value as YAML; free text in quotes, as JSON has them."""
    return json.dumps(text, ensure_ascii=False) if key in ("by", "note") else text
