"""The last steps of README and the questions of docs/alerting.md, on a running pair."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from exporter.demo.stack import Programs, Stack, run_stack
from tests.contracts.test_docs import BLOCKS
from tests.prometheus.test_paging import Pager, wait_until
from tests.servers import require_tool


class Calm(BaseHTTPRequestHandler):
    """An exporter with nothing to say."""

    def do_GET(self) -> None:
        """Answer with an empty page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def pager() -> Iterator[Pager]:
    """What Alertmanager's receivers lead to."""
    with Pager() as pager:
        yield pager


@pytest.fixture(scope="module")
def stack(pager: Pager, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prometheus and Alertmanager with the shipped rules and routes, and a target that is up."""
    programs = Programs(
        str(require_tool("prometheus", "prometheus")),
        str(require_tool("prometheus-alertmanager", "prometheus-alertmanager")),
    )
    folder = tmp_path_factory.mktemp("stack")
    with ThreadingHTTPServer(("127.0.0.1", 0), Calm) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            targets = [f"127.0.0.1:{server.server_port}"]
            with run_stack(programs, folder, targets, pager.receivers()) as stack:
                yield stack
        finally:
            server.shutdown()
            thread.join()


def ask(stack: Stack, page: str, start: str) -> str:
    """Run the command of a page that starts so; return what it says."""
    (command,) = (
        command
        for block in BLOCKS
        if block.page == page
        for command in block.commands
        if command.startswith(start)
    )
    for address, own in (("9090", stack.prometheus_url), ("9093", stack.alertmanager_url)):
        command = command.replace(f"http://localhost:{address}", own)
    for tool in ("promtool", "amtool"):
        require_tool(tool, "prometheus and prometheus-alertmanager")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_drill_of_the_readme_is_a_page(stack: Stack, pager: Pager) -> None:
    ask(stack, "README.md", "curl -fsS --retry 5 --retry-connrefused http://localhost:9093")
    ask(stack, "README.md", "amtool alert add")

    wait_until(lambda: pager.pages("firing"), lambda: pager.notes)
    assert pager.pages("firing") == [["ChatQueueDrill"]]


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        ("promtool query instant http://localhost:9090 'up", "=> 1 "),
        ("promtool query instant http://localhost:9090 'ALERTS", 'alertname="ChatQueueWatchdog"'),
        ("amtool alert query", "ChatQueueWatchdog"),
    ],
)
def test_each_link_of_the_chain_answers(start: str, answer: str, stack: Stack) -> None:
    wait_until(
        lambda: answer in ask(stack, "docs/alerting.md", start),
        lambda: ask(stack, "docs/alerting.md", start),
    )
