"""The committed files are the generator's, and valid by the SDK's model of a dashboard."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.dashboards.documents import DASHBOARDS, FOLDER
from tools.dashboards.__main__ import build

# What Grafana reads and the SDK's model of annotations and variables has no field for.
BEYOND_THE_MODEL = {"titleFormat", "textFormat", "useValueForTime"}


def test_they_regenerate_byte_for_byte() -> None:
    committed = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")}

    assert committed == build(), "run: make dashboards"


@pytest.mark.parametrize("uid", sorted(DASHBOARDS))
def test_they_survive_the_sdk(uid: str) -> None:
    document: dict[str, Any] = copy.deepcopy(DASHBOARDS[uid])
    assert document.pop("id") is None
    for annotation in document["annotations"]["list"]:
        for name in BEYOND_THE_MODEL & set(annotation):
            del annotation[name]

    again = json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))

    assert again == document
