"""promtool: rule files and tables of expectations in, verdicts out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers import require_tool

ALERTS = Path(__file__).parents[2] / "alerts"
RULE_FILES = tuple(sorted(ALERTS.glob("*.rules.yml")))


@dataclass(frozen=True)
class Rule:
    """An alerting rule as the file says it.

    Attributes:
        file: Its file's name.
        body: Its mapping.
    """

    file: str
    body: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Alert and severity; twins differ in the latter."""
        return self.body["alert"], self.body["labels"]["severity"]


def read_rules(folder: Path = ALERTS) -> tuple[Rule, ...]:
    """Every rule of every file, in order."""
    return tuple(
        Rule(path.name, body)
        for path in sorted(folder.glob("*.rules.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for body in group["rules"]
    )


RULES = {rule.key: rule.body for rule in read_rules()}
FILES = {rule.key[0]: ALERTS / rule.file for rule in read_rules()}


_NAME = re.compile(r"\b(?:chatqueue_\w+|process_\w+|python_info|up)\b(?=\s*[{\[)\s]|$)")


def names_in(expression: str) -> set[str]:
    """Metrics of an expression: neither its texts nor its labels."""
    without_texts = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    return set(_NAME.findall(re.sub(r"\{[^}]*\}", "{}", without_texts)))


def used_by_rules() -> set[str]:
    """Metrics of all rules."""
    return {name for rule in RULES.values() for name in names_in(rule["expr"])}


def render(annotation: str, labels: Mapping[str, str]) -> str:
    """Fill labels into an annotation that holds nothing else."""
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels[m[1]], annotation)


def expand(values: str) -> list[str]:
    """Promtool's series notation as one token a sample."""
    tokens = []
    for part in values.split():
        found = re.fullmatch(r"(_|-?[\d.]+|[+-]Inf)(?:([+-][\d.]+))?(?:x(\d+))?", part)
        if found is None or found[3] is None:
            tokens.append(part)
        elif found[1] == "_":
            tokens += ["_"] * int(found[3])
        else:
            # `axn` has n + 1 samples.
            start, step = float(found[1]), float(found[2] or 0)
            tokens += [f"{start + step * n:g}" for n in range(int(found[3]) + 1)]
    return tokens


def only(folder: Path, alert: str, shipped: Path = ALERTS) -> list[Path]:
    """A file with the rules of one alert as they are shipped, to evaluate no others beside them."""
    file = folder / "one.rules.yml"
    rules = [rule.body for rule in read_rules(shipped) if rule.key[0] == alert]
    file.write_text(yaml.safe_dump({"groups": [{"name": alert, "rules": rules}]}))
    return [file]


def run_tests(
    folder: Path,
    tests: Mapping[str, Mapping[str, Any]],
    files: Sequence[Path] = RULE_FILES,
    interval_s: int = 15,
) -> str:
    """Run `promtool test rules`; return what it complains about, empty where nothing.

    Args:
        folder: For the file.
        tests: Name to a test in promtool's form.
        files: Rules to evaluate; fewer are faster.
        interval_s: Between two evaluations.
    """
    file = folder / "tests.yml"
    document = {
        "rule_files": [str(path) for path in files],
        "evaluation_interval": f"{interval_s}s",
        "tests": [{"name": name, **test} for name, test in tests.items()],
    }
    file.write_text(yaml.safe_dump(document))
    promtool = require_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr
