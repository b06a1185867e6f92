"""Recorded samples → a Prometheus that has scraped them, alerts and all, and can be asked."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from exporter.config.durations import parse_duration
from exporter.demo.machine import find_free_port
from exporter.errors import ChatqueueError

_DEADLINE_S = 60.0


class HistoryError(ChatqueueError):
    """Prometheus's tools refused something; the message has their words."""


@dataclass(frozen=True, slots=True)
class Series:
    """One answer.

    Attributes:
        labels: Without the metric's name.
        points: Unix time to value.
    """

    labels: Mapping[str, str]
    points: Mapping[float, float]


class Prometheus:
    """A running server.

    Attributes:
        url: Without a path.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, expr: str, at_s: float) -> list[Series]:
        """Return an expression's series at one moment."""
        found = self._get("query", query=expr, time=at_s)
        return [Series(_labels(s), dict([_point(s["value"])])) for s in found]

    def ask_range(self, expr: str, since_s: float, until_s: float, step_s: float) -> list[Series]:
        """Return an expression's series over a time."""
        found = self._get("query_range", query=expr, start=since_s, end=until_s, step=step_s)
        return [Series(_labels(s), dict(map(_point, s["values"]))) for s in found]

    def is_ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(requests.RequestException):
            return bool(requests.get(f"{self.url}/api/v1/status/buildinfo", timeout=5).ok)
        return False

    def _get(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=60).json()
        if answer["status"] != "success":
            raise HistoryError(f"{parameters['query']}: {answer['error']}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextlib.contextmanager
def run_prometheus(data: Path) -> Iterator[Prometheus]:
    """Serve the blocks in a folder, however old they are."""
    port = find_free_port()
    config = data.with_suffix(".yml")
    config.write_text("{}\n")
    with data.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    server = Prometheus(port)
    deadline = time.monotonic() + _DEADLINE_S
    try:
        while not server.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise HistoryError(data.with_suffix(".log").read_text())
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(20)


def backfill(files: Sequence[Path], data: Path, block: str = "2h") -> None:
    """Write OpenMetrics files into a folder of Prometheus, as blocks of at most that length."""
    for file in files:
        command = ["promtool", "tsdb", "create-blocks-from", f"--max-block-duration={block}"]
        command += ["--quiet", "openmetrics", str(file), str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HistoryError(f"{file}: {done.stdout}{done.stderr}")


def write_alerts(
    server: Prometheus, rules: Path, span: tuple[float, float], step_s: float, file: Path
) -> None:
    """Evaluate every alert over a time and write what fired as OpenMetrics.

    promtool backfills recording rules only, so this is Prometheus's own way with `for`: an alert
    fires where its expression has had a series for that long without a gap.
    """
    lines = []
    for path in sorted(rules.glob("*.rules.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" not in rule:
                    continue
                for series in server.ask_range(rule["expr"], *span, step_s):
                    labels = {**series.labels, **rule.get("labels", {})}
                    labels |= {"alertname": rule["alert"], "alertstate": "firing"}
                    text = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
                    for_s = parse_duration(rule.get("for", "0s")).total_seconds()
                    lines += [
                        (at_s, f"ALERTS{{{text}}} 1 {at_s:.0f}\n")
                        for at_s in find_firing(sorted(series.points), for_s, step_s)
                    ]
    file.write_text("".join(line for _, line in sorted(lines)) + "# EOF\n")


def find_firing(moments: Sequence[float], for_s: float, step_s: float) -> Iterator[float]:
    """Return when an alert fires whose expression has a series at these moments."""
    since, before = 0.0, float("-inf")
    for moment in moments:
        if moment - before > 1.5 * step_s:
            since = moment
        before = moment
        if moment - since >= for_s:
            yield moment


def _labels(series: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in series["metric"].items() if name != "__name__"}


def _point(pair: Sequence[Any]) -> tuple[float, float]:
    return float(pair[0]), float(re.sub("Inf$", "inf", pair[1]))
