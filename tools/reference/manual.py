"""Manual pages and shell completions, from the commands themselves."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from click.shell_completion import get_completion_class
from click_man.core import write_man_pages

from exporter import __version__
from exporter.cli import cli

MANUAL, COMPLETIONS = "docs/man", "deploy/completions"
# Where a shell looks for it: its file's name.
SHELLS = {"bash": "chatqueue", "zsh": "_chatqueue", "fish": "chatqueue.fish"}


def rendered_files(_: Path) -> dict[str, str]:
    """Return every page and script by its path."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # click-man's own
        write_man_pages("chatqueue", cli, version=__version__, target_dir=folder, date="")
        pages = {f"{MANUAL}/{page.name}": page.read_text() for page in Path(folder).iterdir()}
    return pages | {
        f"{COMPLETIONS}/{shell}/{name}": _complete(shell) for shell, name in SHELLS.items()
    }


def _complete(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(cli, {}, "chatqueue", "_CHATQUEUE_COMPLETE").source().strip() + "\n"
