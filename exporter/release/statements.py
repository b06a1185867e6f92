"""The SQL of a release, by the names of its files."""

from __future__ import annotations

from exporter.database.statements import load_statements

STATEMENTS = load_statements(__package__, "sql")
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
