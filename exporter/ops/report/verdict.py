"""The report in a few lines, for announcements."""

from __future__ import annotations

from datetime import datetime

from exporter.config import Config
from exporter.config.watch import Watch
from exporter.digests.announcements import Verdict
from exporter.errors import ChatqueueError


def judge_so_far(config: Config, watch: Watch, at: datetime) -> Verdict:
    """Return what the report says; never raises, for an announcement goes out without it too.

    Args:
        config: In force.
        watch: Likewise.
        at: The time; after the watch's end, that is judged.
    """
    # What asks Prometheus is loaded with the first announcement that needs it.
    from exporter.ops.report.document import as_json  # noqa: PLC0415
    from exporter.ops.report.making import make_report  # noqa: PLC0415
    from exporter.ops.report.markdown import MARKS  # noqa: PLC0415

    ends_at = watch.ends_at
    try:
        made = make_report(
            config, tuple(config.databases), watch, at if ends_at is None else min(at, ends_at)
        )
    except ChatqueueError as error:
        return Verdict((f"Verdict so far: unknown ({error}).",))
    return Verdict(
        (
            f"Verdict so far: {made.verdict}. {made.advice.summary}",
            *(f"{MARKS[each.verdict]} {each.criterion.title}" for each in made.judged),
            "`chatqueue report --format html` shows why.",
        ),
        as_json(made),
    )
