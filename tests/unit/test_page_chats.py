"""The lists of chats on the daemon's page: who sees them, how often they are asked for, as what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from exporter.metrics.snapshot import Family, Sample
from exporter.ops.chats.listing import Chat, Listing
from exporter.ops.chats.verdicts import Verdict
from exporter.server.message import Request, Response
from exporter.server.page.chats import MOST_SHOWN, ChatsPage, find_counted, is_local
from exporter.server.routes import Place, build_application
from tests.page import FakeDaemon

HOSTILE = "<script>alert(1)</script>\u202e{{ 7 * 7 }}" + "n" * 4900
OPERATOR = UUID(int=7)


def make_chat(number: int = 1, *, operator: str = "Ann") -> Chat:
    verdict = Verdict("held back", "no operator is free", "free_operator")
    reasons = ("overdue:critical", "unanswered")
    return Chat(
        UUID(int=number), "assigned", reasons, 1300.0, 1400.0, OPERATOR, operator, 90.0, verdict
    )


class Asking:
    """A page of chats whose clock a test sets and whose asking it counts."""

    def __init__(self, *chats: Chat, names: tuple[str, ...] = ("main",), **sections: Any) -> None:
        self.daemon = FakeDaemon(*names, **sections)
        self.chats = chats or (make_chat(),)
        self.asked: list[tuple[str, frozenset[str]]] = []
        self.now = 1000.0
        daemon: Any = self.daemon
        self.page = ChatsPage(daemon, "/x", read=self._read, monotonic=lambda: self.now)
        self.answer = build_application(
            daemon, enable_lifecycle=False, place=Place("", "/x"), chats=self.page
        )

    def _read(self, plan: Any, release_plan: Any, also: frozenset[str]) -> Listing:
        assert plan.database == release_plan.database
        self.asked.append((plan.database, also))
        return Listing(plan.database, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), self.chats)

    def look(self, query: str = "", **changes: Any) -> Response:
        request = Request("GET", "/chats", query, {"host": "localhost:10847"}, b"", "127.0.0.1")
        for name, value in changes.items():
            setattr(request, name, value)
        request.may_block = self.page.claim(request)
        return self.answer(request)


def test_a_list_names_every_chat_in_full() -> None:
    response = Asking().look()

    assert response.status == 200
    headers = dict(response.headers)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    page = response.body.decode()
    assert f"<code>{UUID(int=1)}</code>" in page
    assert "<strong>overdue:critical, unanswered</strong>" in page
    assert "held back by free_operator: no operator is free" in page
    assert "1 chat, as of <time>2026-01-02 03:04:05 UTC</time>" in page


@pytest.mark.parametrize(
    ("peer", "headers", "is_user", "status"),
    [
        ("127.0.0.1", {"host": "localhost:10847"}, False, 200),
        ("::1", {"host": "[::1]:10847"}, False, 200),
        ("127.0.0.1", {"host": "127.0.0.1"}, False, 200),
        ("192.0.2.7", {"host": "chatqueue.example.com"}, True, 200),
        ("192.0.2.7", {"host": "localhost"}, False, 403),
        ("127.0.0.1", {"host": "evil.example.com"}, False, 403),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-for": "192.0.2.7"}, False, 403),
        ("127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}, False, 403),
        ("127.0.0.1", {}, False, 403),
        ("", {"host": "localhost"}, False, 403),
    ],
)
def test_only_users_and_this_very_host_see_chats(
    peer: str, headers: dict[str, str], is_user: bool, status: int
) -> None:
    asking = Asking()

    response = asking.look(peer=peer, headers=headers, is_user=is_user)

    assert response.status == status
    assert len(asking.asked) == (status == 200)
    assert (str(UUID(int=1)).encode() in response.body) is (status == 200)
    assert is_local(Request("GET", "/", "", headers, b"", peer)) is (status == 200 and not is_user)


def test_the_database_is_asked_once_an_interval_however_many_look() -> None:
    asking = Asking()

    for _ in range(50):
        assert asking.look().status == 200
    assert len(asking.asked) == 1

    asking.now += 14.9
    asking.look()
    assert len(asking.asked) == 1

    asking.now += 0.2
    asking.look()
    assert len(asking.asked) == 2


def test_while_one_asks_the_others_get_the_list_as_it_was() -> None:
    asking = Asking()
    request = Request("GET", "/chats", "", {"host": "localhost"}, b"", "127.0.0.1")
    assert asking.page.claim(request)

    assert asking.look().body == b"The database is being asked: look again in a moment.\n"
    assert asking.asked == []

    request.may_block = True
    assert asking.answer(request).status == 200
    asking.now += 20
    assert asking.page.claim(request)
    assert asking.look().status == 200
    assert len(asking.asked) == 1


def test_each_database_has_its_own_list() -> None:
    asking = Asking(
        names=("main", "other"), databases={"main": {"dsn": "host=a"}, "other": {"dsn": "host=b"}}
    )

    page = asking.look("database=other").body.decode()
    asking.look()

    assert [name for name, _ in asking.asked] == ["other", "main"]
    assert 'href="/x/chats?database=main"' in page
    assert asking.look("database=absent").status == 404


def test_off_removes_the_list_and_its_place_on_the_page() -> None:
    on, off = Asking(), Asking(web={"chats": "off"})

    assert (on.look().status, off.look().status) == (200, 404)
    assert off.look(is_user=True).status == 404
    assert off.asked == []
    pages = [a.answer(Request("GET", "/", "", {}, b"", "192.0.2.7")).body for a in (on, off)]
    assert b'<details id="chats-main"' in pages[0]
    assert b"chats-main" not in pages[1]


def test_the_live_page_itself_holds_no_chat() -> None:
    asking = Asking()
    asking.look()

    for path in ("/", "/live", "/metrics"):
        body = asking.answer(Request("GET", path, "", {}, b"", "127.0.0.1")).body
        assert str(UUID(int=1)).encode() not in body


def test_hostile_names_are_text() -> None:
    page = Asking(make_chat(operator=HOSTILE)).look().body.decode()

    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\u202e{{ 7 * 7 }}nnn" in page
    assert '<bdi class="name"' in page


def test_a_long_list_is_cut_and_says_so() -> None:
    chats = [make_chat(number) for number in range(MOST_SHOWN + 5)]

    page = Asking(*chats).look().body.decode()

    assert page.count('<th scope="row">') == MOST_SHOWN
    assert f"{MOST_SHOWN + 5} chats, of which the {MOST_SHOWN} oldest are shown" in page


def test_a_costly_list_is_asked_for_when_its_gauge_counts_chats() -> None:
    samples = tuple(
        Sample((("check", check), ("database", "main")), value)
        for check, value in (("lost_reply", 2.0), ("unknown_state", 0.0))
    )
    overdue = tuple(
        Sample((("state", state), ("severity", "critical")), 1.0)
        for state in ("assigned", "waiting_real_user_reply")
    )
    families = (
        Family("chatqueue_invalid_chats", "gauge", "Help.", "", samples),
        Family("chatqueue_state_overdue_chats", "gauge", "Help.", "", overdue),
    )

    assert find_counted(families) == {"invalid:lost_reply", "overdue:critical"}
    assert find_counted(families[:1]) == {"invalid:lost_reply"}
    assert find_counted(()) == frozenset()
