"""`python -m tools.preview.page`: pictures of the live page, of the demo as it is after a while."""

from __future__ import annotations

import argparse
import http.client
import io
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from exporter.demo.machine import find_free_port

ROOT = Path(__file__).parents[2]
_READY_S = 30.0
_COLOURS = 256


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        name: Of the file.
        scenario: Of the demo.
        release: Mode of auto-release.
        size: Of the window, in pixels; the page is shown whole where it is longer.
        scheme: What the window prefers.
        query: Of the page.
    """

    name: str
    scenario: str
    release: str = "off"
    size: tuple[int, int] = (1280, 720)
    scheme: Literal["light", "dark"] = "light"
    query: str = ""


DOCUMENTED = (
    Picture("live-page-rush", "rush"),
    Picture("live-page-vanished-operators", "vanished-operators", "enforce", scheme="dark"),
)
OTHERS = (
    Picture("live-page-calm", "calm"),
    Picture("live-page-phone", "rush", size=(360, 740)),
    Picture("live-page-wall", "vanished-operators", "observe", (1920, 1080), query="?wall"),
)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tools.preview.page", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--all", action="store_true", help="those too that no document shows")
    parser.add_argument("--after", type=float, default=70.0, help="seconds of demo before each")
    options = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for picture in (*DOCUMENTED, *(OTHERS if options.all else ())):
            file = options.output / f"{picture.name}.png"
            file.write_bytes(_shrink(_take(browser, picture, options.after)))
            print(file)
        browser.close()


def _take(browser: Browser, picture: Picture, after_s: float) -> bytes:
    """Run a demo until its page is worth a picture; return that."""
    port = find_free_port()
    command = [sys.executable, "-m", "exporter", "demo", "--scenario", picture.scenario]
    command += ["--release", picture.release, "--web.listen-address", f"127.0.0.1:{port}"]
    demo = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_ready(port)
        time.sleep(after_s)
        context = browser.new_context(
            viewport={"width": picture.size[0], "height": picture.size[1]},
            color_scheme=picture.scheme,
        )
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/{picture.query}")
        taken = page.screenshot(full_page=not picture.query)
        context.close()
        return taken
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(30)


def _wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/-/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise TimeoutError(f"the demo is not ready within {_READY_S:.0f} s")


def _shrink(png: bytes) -> bytes:
    """The picture with few colours, which flat areas do not miss."""
    out = io.BytesIO()
    reduced = (
        Image.open(io.BytesIO(png)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    )
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()
