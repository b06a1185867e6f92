"""The reference platform before the fix, and what the three migrations make of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exporter.config.resources import find_resource
from exporter.demo.platform import MIGRATIONS, application
from exporter.demo.postgres import LocalServer
from tests.servers import Platform, old_platform

CONTRACT = (find_resource("queries") / "contract_objects.sql").read_text(encoding="utf-8")


@pytest.fixture
def before(postgres_server: LocalServer) -> Iterator[Platform]:
    """A platform of 400 chats without the fix."""
    with old_platform(postgres_server, 400) as platform:
        yield platform


def apply_migrations(platform: Platform) -> None:
    """Apply 014, 015 and 016."""
    for file in sorted(MIGRATIONS.glob("*.sql")):
        platform.execute(file.read_bytes())


def find_objects(platform: Platform) -> dict[str, tuple[str, bool]]:
    """Each object of the fix: what is there, and whether that is right."""
    return {name: (found, ok) for _, name, _, found, ok, _ in platform.fetch(CONTRACT)}


def test_before_the_fix_only_the_two_old_functions_are_there(before: Platform) -> None:
    found = {name for name, (what, _) in find_objects(before).items() if what != "missing"}

    assert found == {"assign_chat_to_operator", "release_and_reassign_chat"}


def test_the_migrations_bring_every_object_of_the_fix(before: Platform) -> None:
    apply_migrations(before)

    assert all(ok for _, ok in find_objects(before).values())


def test_the_migrations_set_the_state_of_each_chat_by_who_spoke_last(before: Platform) -> None:
    apply_migrations(before)

    states = dict(before.fetch("SELECT chat_state, count FROM public.chat_state_summary"))
    assert states == {"assigned": 20, "waiting_assignment": 4, "waiting_real_user_reply": 376}
    assert before.value("SELECT count(*) FROM public.chats WHERE last_operator_id IS NULL") == 0


def test_before_the_fix_an_operator_gets_an_answered_chat_again(before: Platform) -> None:
    operator, chat = before.fetch(
        "SELECT operator_id, chat_id FROM public.chat_assignments WHERE released_at IS NULL LIMIT 1"
    )[0]
    with before.connection as connection:
        assert application.release(connection, chat, "operator_sent_message")

        assert application.assign(connection, operator) == chat
