"""The SQL of a release, by the names of its files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType


def _load() -> Mapping[str, str]:
    """Read `exporter/release/sql/<name>.sql`."""
    folder = files(__package__).joinpath("sql")
    return MappingProxyType(
        {
            entry.name.removesuffix(".sql"): entry.read_text("utf-8")
            for entry in folder.iterdir()
            if entry.name.endswith(".sql")
        }
    )


STATEMENTS = _load()
"""Name to text; tests hand the engine a copy with a lock or a guard taken out."""

RELATIONS = (
    "public.chats",
    "public.chat_assignments",
    "public.operator_activity",
    "public.messages",
    "public.operators",
    "public.platform_config",
)
"""What a decision reads; a role that does not see all their rows decides nothing."""

OWN_RELATIONS = (
    "chatqueue.release_control",
    "chatqueue.release_audit",
    "chatqueue.release_exemption",
)
"""Ours, where they are: an exemption or a past release that is hidden would be none."""
