"""The words of every shipped alert: from its rule what is wrong, from its runbook what to do."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from exporter.config.resources import find_resource

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Advice:
    """The words of an alert, from the rules and its runbook.

    Attributes:
        summary: What is wrong.
        first: What to do first, in Markdown; empty where the runbook does not say.
        wait_s: How long it must hold before Prometheus pages.
    """

    summary: str
    first: str
    wait_s: float


@functools.cache
def read_advice() -> Mapping[tuple[str, str], Advice]:
    """Return the words of every shipped alert, by name and severity."""
    runbooks = find_resource("docs/runbooks.md").read_text(encoding="utf-8")
    firsts = {
        section.partition("\n")[0].strip(): _find_first(section)
        for section in re.split(r"^## ", runbooks, flags=re.MULTILINE)[1:]
    }
    advice = {}
    for file in sorted(find_resource("alerts").glob("*.rules.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                name, severity = rule["alert"], rule["labels"].get("severity", "")
                first, summary = firsts.get(name, ""), rule["annotations"]["summary"]
                advice[name, severity] = Advice(summary, first, _read_wait(rule.get("for", "0s")))
    return advice


def _find_first(section: str) -> str:
    found = re.search(r"^\*\*First:\*\* (.+?)(?:\n\n|\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _read_wait(text: str) -> float:
    return float(text[:-1]) * _UNITS_S[text[-1]]
