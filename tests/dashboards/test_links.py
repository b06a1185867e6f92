"""Every runbook that a panel links to is one of an alert that there is."""

from __future__ import annotations

import pytest
import yaml

from tests.dashboards.documents import PANELS, ROOT

ALERTS = {
    rule["alert"]
    for file in (ROOT / "alerts").glob("*.rules.yml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@pytest.mark.skipif(not ALERTS, reason="this checkout has no alert rules to link to")
def test_every_link_is_to_an_alert_that_there_is() -> None:
    linked = {
        link["title"].removeprefix("What to do: ")
        for panel in PANELS.values()
        for link in panel["links"]
    }

    assert linked <= ALERTS
