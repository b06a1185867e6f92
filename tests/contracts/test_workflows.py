"""What runs for those who fork: workflows valid, without a weakness, each action pinned."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.servers import require_tool

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid(workflow: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows",
         workflow],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_no_weakness() -> None:
    beside = Path(sys.executable).with_name("zizmor")
    zizmor = beside if beside.exists() else require_tool("zizmor", "zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", ROOT / ".github" / "workflows"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_it_runs_is_there(workflow: Path) -> None:
    text = workflow.read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in yaml.safe_load(text)["jobs"].values():
        named = job.get("strategy", {}).get("matrix", {}).get("target", [])
        assert set(named) <= targets
    assert all(
        re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", use) for use in re.findall(r"uses: (\S+)", text)
    )
    for program in re.findall(r"run: (\.ci/\w+)$", text, re.MULTILINE):
        assert (ROOT / program).exists()
