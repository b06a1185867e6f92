"""Manual pages and shell completions, from the commands themselves."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from click.shell_completion import get_completion_class

from exporter import __version__
from exporter.cli import cli

MANUAL, COMPLETIONS = "docs/man", "deploy/completions"
# Where a shell looks for it: its file's name.
SHELLS = {"bash": "chatqueue", "zsh": "_chatqueue", "fish": "chatqueue.fish"}


def rendered_files(_: Path) -> dict[str, str]:
    """Return every page and script by its path."""
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: it leaves traces in the commands, and warns of its own doings.
        command = [sys.executable, "-W", "ignore", "-m", __name__, folder]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
        pages = {f"{MANUAL}/{page.name}": page.read_text() for page in Path(folder).iterdir()}
    return pages | {
        f"{COMPLETIONS}/{shell}/{name}": _complete(shell) for shell, name in SHELLS.items()
    }


def _complete(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(cli, {}, "chatqueue", "_CHATQUEUE_COMPLETE").source().strip() + "\n"


if __name__ == "__main__":
    from click_man.core import write_man_pages

    write_man_pages("chatqueue", cli, version=__version__, target_dir=sys.argv[1], date="")
