"""`chatqueue notify --test`: what it sends, what it says, and its exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli, main
from tests.webhooks import OK, Behaviour, Receiver, answer


def write(folder: Path, **urls: str) -> Path:
    """A configuration with these webhooks."""
    path = folder / "chatqueue.yaml"
    lines = [f"    {name}: {{url: '{url}', events: [tripped]}}\n" for name, url in urls.items()]
    text = "databases: {main: {dsn: host=db}}\nnotify:\n  webhooks:\n"
    path.write_text(text + "".join(lines))
    return path


def run(config: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output, durations cut out."""
    result = CliRunner().invoke(cli, ["notify", "--config.file", str(config), *arguments])
    return result.exit_code, re.sub(r" \(\d+\.\d\d s\)", "", result.output)


def test_every_webhook_gets_one_notice_and_its_answer_is_told(tmp_path: Path) -> None:
    gone: Behaviour = answer(404, b"no_service")
    with Receiver(OK) as good, Receiver(gone) as bad:
        config = write(tmp_path, good=good.url, bad=bad.url)

        assert run(config, "--test") == (
            1,
            (
                "good: delivered, answered 200\n"
                "bad: not delivered, answered 404 Not Found: no_service\n"
            ),
        )
        assert run(config, "--test", "--webhook", "good") == (0, "good: delivered, answered 200\n")
        assert good.events == ["test", "test"]
        assert good.received[0].document["title"] == "A test of this webhook by chatqueue"
        assert len(bad.received) == 1


def test_without_test_there_is_nothing_to_do(tmp_path: Path) -> None:
    code, text = run(write(tmp_path, ops="http://127.0.0.1:1/"))

    assert code == 2
    assert "there is nothing to send, expected --test" in text


@pytest.mark.parametrize(
    ("urls", "arguments", "message"),
    [
        ({}, (), "no webhook is configured, expected some below notify.webhooks"),
        (
            {"a": "http://127.0.0.1:1/", "b": "http://127.0.0.1:1/"},
            ("--webhook", "c"),
            "--webhook c is not configured, expected one of a, b",
        ),
    ],
)
def test_a_webhook_that_is_not_there_is_named(
    urls: dict[str, str],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write(tmp_path, **urls)
    with pytest.raises(SystemExit) as end:
        main(["notify", "--config.file", str(config), "--test", *arguments])

    assert end.value.code == 1
    assert capsys.readouterr().err == f"chatqueue: {message}\n"
