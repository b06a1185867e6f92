"""What the live page says: verdicts, alarms, values, charts, and how it is served."""

from __future__ import annotations

import gzip
import json
import math
import re
from types import SimpleNamespace
from typing import Any

import pytest

from exporter.config.resources import find_resource
from exporter.metrics.history import MINUTES
from exporter.metrics.snapshot import make_family
from exporter.ops.rules import Links, read_rules
from exporter.release.families import Gauges
from exporter.release.state import ReleaseEvent, ReleaseState
from exporter.server.message import Request
from exporter.server.page.advice import read_advice
from exporter.server.page.alarms import NOT_SHOWN
from exporter.server.page.chats import ChatsPage
from exporter.server.page.render import MAX_AGE_S, LivePage
from exporter.server.page.view import MOST_DRAWN, DatabaseView, build_view
from exporter.server.routes import Place, build_application, build_slowness
from tests.page import CALM, FakeDaemon

UP = {"database_up": 1.0}
PAGE = find_resource("queries").parent / "exporter" / "server" / "page"


def view_of(daemon: FakeDaemon) -> DatabaseView:
    return build_view(daemon).databases[0]  # type: ignore[arg-type]


def shown(values: dict[str, float], **options: Any) -> DatabaseView:
    daemon = FakeDaemon()
    daemon.show({**CALM, **values}, **options)
    return view_of(daemon)


def alerts_of(view: DatabaseView) -> dict[str, str]:
    return {trouble.alarm.alert: trouble.alarm.severity for trouble in view.troubles}


def tile(view: DatabaseView, key: str) -> tuple[str, str, str]:
    (found,) = (each for each in view.tiles if each.key == key)
    return found.value, found.tone, found.note


def test_a_calm_database_is_well_and_says_since_when() -> None:
    daemon = FakeDaemon()
    daemon.record([{**CALM, "oldest_waiting": 400.0}] * 5 + [CALM] * 20)

    view = view_of(daemon)
    assert (view.tone, view.verdict, view.troubles) == ("ok", "All is well", ())
    assert re.fullmatch(r"since \d\d:\d\d UTC \((18|19|20)m\d*s?\)", view.since), view.since


def test_a_loss_of_the_database_ends_the_calm() -> None:
    daemon = FakeDaemon()
    daemon.record([CALM] * 9 + [{**CALM, "database_up": 0.0}] + [CALM] * 3)

    assert "(2m" in view_of(daemon).since


@pytest.mark.parametrize(
    ("values", "alert", "severity"),
    [
        ({"oldest_waiting": 121}, "ChatQueueOldestWait", "warning"),
        ({"oldest_waiting": 301}, "ChatQueueOldestWait", "critical"),
        ({"customer_wait": 301}, "ChatQueueCustomerWait", "warning"),
        ({"customer_wait": 601}, "ChatQueueCustomerWait", "critical"),
        ({"oldest_assigned": 601}, "ChatQueueStuckAssigned", "warning"),
        ({"oldest_assigned": 1201}, "ChatQueueStuckAssigned", "critical"),
        ({"invalid": 2}, "ChatQueueInvalidChats", "warning"),
    ],
)
def test_what_is_past_its_limit_is_named_with_what_to_do(
    values: dict[str, float], alert: str, severity: str
) -> None:
    view = shown(values)

    assert alerts_of(view) == {alert: severity}
    assert view.tone == severity
    assert view.troubles[0].advice.first
    assert view.verdict == view.troubles[0].advice.summary


def test_at_its_limit_nothing_is_wrong() -> None:
    assert shown({"oldest_waiting": 120, "customer_wait": 300, "oldest_assigned": 600}).tone == "ok"


def test_a_condition_that_must_last_is_pending_until_it_has() -> None:
    bad = {**CALM, "idle_overdue": 2.0}
    daemon = FakeDaemon()
    daemon.show(bad)
    daemon.record([CALM, bad])
    pending = view_of(daemon)
    daemon.record([CALM, *[bad] * 5])
    firing = view_of(daemon)

    assert (pending.tone, [t.alarm.alert for t in pending.pending]) == (
        "ok",
        ["ChatQueueIdleDetectorDown"],
    )
    assert alerts_of(firing) == {"ChatQueueIdleDetectorDown": "warning"}
    assert "(4m" in firing.troubles[0].since


def test_nobody_there_while_chats_wait_is_critical() -> None:
    bad = {**CALM, "available": 0.0, "on_chat": 0.0}
    daemon = FakeDaemon()
    daemon.show(bad)
    daemon.record([bad] * 5)

    view = view_of(daemon)
    assert alerts_of(view) == {"ChatQueueNoOperator": "critical"}
    assert tile(view, "available") == ("0", "warning", "while chats wait")


def test_what_happened_lately_comes_from_the_history() -> None:
    daemon = FakeDaemon()
    daemon.record([{**CALM, "repeats": 0.0, "closed_chats": 0.0}] * 20)
    assert view_of(daemon).tone == "ok"
    daemon.record([{**CALM, "repeats": 0.0, "closed_chats": 0.0}] * 5 + [{"repeats": 3.0}] * 2)

    assert alerts_of(view_of(daemon)) == {"ChatQueueAvoidableRepeat": "warning"}


def test_the_service_level_is_that_of_the_last_hour() -> None:
    daemon = FakeDaemon()
    daemon.record(
        [{**UP, "waits": 10.0, "waits_breached": 10.0}] * 60
        + [{**UP, "waits": 10.0, "waits_breached": 0.5}] * 60
    )

    assert tile(view_of(daemon), "service") == ("95.0%", "ok", "ok, goal 90.0%")


def test_a_service_level_that_burns_is_an_alarm() -> None:
    daemon = FakeDaemon()
    daemon.record([{**UP, "waits": 0.0, "waits_breached": 0.0}] + [
        {**UP, "waits": 4.0, "waits_breached": 3.0} for _ in range(60)
    ])  # fmt: skip

    view = view_of(daemon)
    assert alerts_of(view) == {"ChatQueueServiceLevelBurn": "critical"}
    assert tile(view, "service")[:2] == ("25.0%", "warning")


def test_without_a_wait_the_service_level_is_unknown_and_not_perfect() -> None:
    assert tile(shown({}), "service") == ("-", "unknown", "no wait in the last hour")


def test_a_database_that_does_not_answer_is_critical_and_its_values_unknown() -> None:
    daemon = FakeDaemon()
    daemon.show({}, up=False, age_s=90)

    view = view_of(daemon)
    assert alerts_of(view) == {"ChatQueueDatabaseDown": "critical"}
    assert "(1m30s)" in view.since
    assert tile(view, "oldest_waiting") == ("-", "unknown", "unknown")


def test_old_data_is_critical_although_the_values_look_calm() -> None:
    view = shown({}, age_s=130)

    assert alerts_of(view) == {"ChatQueueDataStale": "critical"}
    assert tile(view, "data_age") == ("2m10s", "critical", "critical, over 2m")


def test_a_stalled_thread_and_a_refused_configuration_are_said() -> None:
    daemon = FakeDaemon()
    daemon.stalled, daemon.is_config_current = ("main",), False

    view = build_view(daemon)  # type: ignore[arg-type]
    assert view.tone == "critical"
    assert view.faults[0] == "main is stalled"
    assert "refused" in view.faults[1]


def test_before_the_first_poll_nothing_is_known() -> None:
    daemon = FakeDaemon()
    daemon.workers[0].first_poll_done.clear()

    view = build_view(daemon)  # type: ignore[arg-type]
    assert (view.tone, view.verdict) == ("unknown", "Not polled yet")


@pytest.mark.parametrize(
    ("name", "value", "alert"),
    [
        ("chatqueue_release_breaker_tripped", 1, "ChatQueueReleaseBreakerTripped"),
        ("chatqueue_release_would_close_chats", 2, "ChatQueueReleaseWouldClose"),
    ],
)
def test_a_releaser_that_holds_is_said(name: str, value: float, alert: str) -> None:
    daemon = FakeDaemon()
    daemon.releasers[0].families = (make_family(name, "Help.", [((), value)]),)

    assert alerts_of(view_of(daemon)) == {alert: "warning"}


def test_each_shipped_alert_is_judged_or_left_out_for_a_reason() -> None:
    rules = "".join(read_rules(Links()).values())
    shipped = set(re.findall(r"- alert: (\w+)", rules))
    source = "".join(path.read_text() for path in PAGE.glob("*.py") if path.name != "__init__.py")
    judged = set(re.findall(r'"(ChatQueue\w+)"', source)) - set(NOT_SHOWN)

    assert judged | set(NOT_SHOWN) == shipped
    assert judged & set(NOT_SHOWN) == set()
    for name, severity in read_advice():
        assert read_advice()[name, severity].summary
        assert read_advice()[name, severity].first, f"the runbook of {name} has no First"


# Auto-release, the watch, several databases


def test_a_pause_is_shown_with_who_and_until_when() -> None:
    daemon = FakeDaemon()
    now = build_view(daemon).at_s  # type: ignore[arg-type]
    gauges = Gauges(3, 1, False, True, 4.0, {})
    event = ReleaseEvent(now, "released", "requeued")
    state = ReleaseState("enforce", "enforce", gauges, now + 600, "a drill", "anna", (event,))
    daemon.releasers[0].state = state

    release = view_of(daemon).release
    assert release.tone == "warning"
    assert release.pause is not None
    assert (release.pause[0], release.pause[2]) == ("anna", "a drill")
    assert re.search(r"\((10m|9m59s) left\)", release.pause[1])
    assert release.lines[0] == "3 suspect chats"
    assert [text for _, text in release.events] == ["handed a chat back"]


def test_where_auto_release_is_off_it_says_so_and_nothing_more() -> None:
    daemon = FakeDaemon()
    daemon.releasers = []

    page = ask(daemon, "/").body.decode()
    assert "off: it neither looks nor changes anything" in page
    assert "since the daemon started" not in page


def test_the_watch_shows_how_long_a_rollback_is_possible() -> None:
    daemon = FakeDaemon(watch={"started_at": "2020-01-01T00:00:00Z", "for": "1h"})
    over = build_view(daemon).watch  # type: ignore[arg-type]

    assert over is not None
    assert (over.progress, over.rollback_tone) == (1.0, "unknown")
    assert over.words == "1h of 1h, over"
    assert "no longer possible" in over.rollback


def test_beyond_some_databases_only_those_in_trouble_are_drawn() -> None:
    names = [f"db{number}" for number in range(MOST_DRAWN + 1)]
    daemon = FakeDaemon(*names)
    daemon.show({**CALM, "invalid": 1.0}, "db3")

    view = build_view(daemon)  # type: ignore[arg-type]
    assert [bool(database.charts) for database in view.databases] == [
        name == "db3" for name in names
    ]
    assert view.verdict == "1 of 7 databases: Chats contradict themselves."


def test_longer_history_is_linked_by_its_address_alone() -> None:
    url = "http://prometheus:9090/prefix?token=secret"
    daemon = FakeDaemon(prometheus={"url": url})

    assert build_view(daemon).prometheus == "http://prometheus:9090/prefix"  # type: ignore[arg-type]
    page = ask(daemon, "/").body.decode()
    assert "secret" not in page
    assert "Longer history is in Prometheus" in page


# Charts


def chart(daemon: FakeDaemon, key: str) -> Any:
    (found,) = (each for each in view_of(daemon).charts if each.key == key)
    return found


def test_a_gap_of_the_history_is_a_gap_of_the_line() -> None:
    daemon = FakeDaemon()
    daemon.record([CALM] * 600 + [{}] * 240 + [CALM] * 600)

    drawn = chart(daemon, "oldest")
    values = json.loads(drawn.data)["v"][0]
    assert drawn.svg.count("<polyline") == 2
    assert len(values) == MINUTES // 5
    assert values.count(None) == 240 // 5
    assert 0 not in values
    assert ("no data",) in {row[1:] for row in drawn.rows}


def test_thresholds_are_drawn_and_named() -> None:
    daemon = FakeDaemon()
    daemon.record([CALM] * 30)

    drawn = chart(daemon, "oldest")
    assert drawn.limits == (("warning", "2m"), ("critical", "5m"))
    assert 'class="limit warning"' in drawn.svg
    assert "oldest now 12s, highest 12s at" in drawn.svg


def test_a_threshold_that_is_off_is_not_drawn() -> None:
    daemon = FakeDaemon(thresholds={"customer_wait": {"warning": "off", "critical": "off"}})
    daemon.show(CALM)
    daemon.record([CALM] * 30)

    assert chart(daemon, "unanswered").limits == ()


def test_counts_are_drawn_per_minute_and_without_the_minute_under_way() -> None:
    daemon = FakeDaemon()
    grown = {**UP, "user_messages": 7.0, "operator_messages": 5.0}
    daemon.record([grown] * 59 + [{**grown, "user_messages": 1.0}])

    drawn = chart(daemon, "messages")
    assert [one.now for one in drawn.series] == ["7", "5"]
    assert json.loads(drawn.data)["v"][0][-1] is None


def test_a_chart_of_nothing_says_so() -> None:
    assert chart(FakeDaemon(), "waiting").svg == ""
    assert "no data yet" in ask(FakeDaemon(), "/").body.decode()


def test_infinite_and_unknown_values_do_not_break_a_chart() -> None:
    daemon = FakeDaemon()
    daemon.record([{**CALM, "oldest_waiting": math.inf}, {**CALM, "oldest_waiting": math.nan}])

    assert chart(daemon, "oldest").svg == ""


# Serving


def ask(daemon: Any, path: str, query: str = "", **headers: str) -> Any:
    application = build_application(daemon, enable_lifecycle=False)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return application(Request("GET", path, query, named, b"", "127.0.0.1"))


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202eevil\u202c {{ 7*7 }}",
    "x" * 5000,
)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    daemon = FakeDaemon()
    daemon.workers[0].name = name
    daemon.show({**CALM, "invalid": 1.0}, name, labels=(("env", name),))
    state = ReleaseState("enforce", "enforce", None, 4e9, name, name)
    daemon.releasers[0].state, daemon.releasers[0].name = state, name

    page = ask(daemon, "/").body.decode()
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "49" not in re.findall(r"evil[^<]*", page)
    for shown_name in re.findall(rf"<(\w+)[^>]*>{re.escape(_escaped(name))}", page):
        assert shown_name == "bdi"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace(
        '"', "&#34;"
    )  # fmt: skip


def test_the_policy_forbids_all_but_our_own_files() -> None:
    response = ask(FakeDaemon(), "/")
    page = response.body.decode()

    policy = dict(response.headers)["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert " style=" not in page
    assert not re.search(r"\son\w+=", page)
    assert re.findall(r'(?:src|href)="(?!/|#)', page) == []


def test_its_files_are_there_and_their_links_change_with_them() -> None:
    page = ask(FakeDaemon(), "/").body.decode()
    paths = re.findall(r'(?:src|href)="(/page/[^"]+)"', page)

    assert len(paths) == 3
    for path in paths:
        name, _, mark = path.partition("?")
        response = ask(FakeDaemon(), name)
        assert response.status == 200
        assert dict(response.headers)["X-Content-Type-Options"] == "nosniff"
        assert bool(mark) == (not name.endswith(".svg"))
    for path in ("/page/", "/page/../routes.py", "/page/other.svg", "/page/page.py"):
        assert ask(FakeDaemon(), path).status == 404


def test_links_follow_the_prefix() -> None:
    daemon = FakeDaemon()
    daemon.show({**CALM, "invalid": 1.0})
    place = Place("/inner", "/outer")
    application = build_application(daemon, enable_lifecycle=False, place=place)  # type: ignore[arg-type]
    page = application(Request("GET", "/inner/", "", {}, b"", "")).body.decode()

    links = set(re.findall(r'(?:src|href|data-source)="([^"#]+)"', page))
    assert {link for link in links if not link.startswith("/outer/")} == set()
    assert {"/outer/live", "/outer/runbooks/ChatQueueInvalidChats"} <= links
    assert application(Request("GET", "/inner/page/style.css", "", {}, b"", "")).status == 200


def test_without_a_script_it_refreshes_itself() -> None:
    page = ask(FakeDaemon(), "/").body.decode()

    assert '<noscript><meta http-equiv="refresh" content="1"></noscript>' in page
    assert "as of <time" in page


def test_the_wall_is_the_same_page_for_a_screen_far_away() -> None:
    assert '<html lang="en" class="wall">' in ask(FakeDaemon(), "/", "wall").body.decode()
    assert '<html lang="en">' in ask(FakeDaemon(), "/", "wallet").body.decode()


def test_it_is_gzipped_for_who_takes_it() -> None:
    plain, packed = ask(FakeDaemon(), "/live"), ask(FakeDaemon(), "/live", accept_encoding="gzip")

    assert b"<html" not in plain.body
    assert dict(packed.headers)["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body).startswith(b'<section id="summary"')


class Rendering:
    """A live page whose clock and renderings a test sees."""

    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.now = 1000.0
        self.count = 0
        self.live = LivePage(
            self.daemon,  # type: ignore[arg-type]
            "",
            monotonic=lambda: self.now,
            build=self._build,  # type: ignore[arg-type]
        )

    def _build(self, daemon: Any) -> Any:
        self.count += 1
        return build_view(daemon)

    def look(self) -> bytes:
        may_render = self.live.claim()
        return self.live.respond("/live", compressed=False, may_render=may_render).body


def test_it_is_rendered_once_a_poll_however_many_look() -> None:
    watched = Rendering()
    first = [watched.look() for _ in range(50)]
    assert watched.count == 1
    assert set(first) == {first[0]}
    watched.daemon.show({**CALM, "waiting": 9.0})
    watched.now += 1
    second = [watched.look() for _ in range(50)]

    assert watched.count == 2
    assert second[0] != first[0]


def test_it_is_not_rendered_while_nobody_looks_and_again_when_it_is_old() -> None:
    watched = Rendering()
    assert watched.count == 0
    watched.look()
    watched.now += MAX_AGE_S
    watched.look()

    assert watched.count == 2


def test_while_one_request_renders_the_others_get_the_page_as_it_was() -> None:
    watched = Rendering()
    watched.look()
    watched.now += MAX_AGE_S
    claims = [watched.live.claim() for _ in range(3)]

    assert claims == [True, False, False]
    before = watched.count
    watched.live.respond("/live", compressed=False, may_render=False)
    assert watched.count == before


def test_a_request_that_was_to_render_and_did_not_leaves_it_to_another() -> None:
    watched = Rendering()
    watched.look()
    watched.now += MAX_AGE_S
    assert watched.live.claim()
    watched.now += 10

    assert watched.live.claim()


@pytest.mark.parametrize(
    ("method", "path", "is_slow"),
    [
        ("GET", "/", True),
        ("HEAD", "/live", True),
        ("POST", "/", False),
        ("GET", "/metrics", False),
    ],
)
def test_only_who_looks_at_the_page_renders_it(method: str, path: str, is_slow: bool) -> None:
    rendering = Rendering()
    chats = ChatsPage(rendering.daemon, "")  # type: ignore[arg-type]
    judge = build_slowness(rendering.live, chats)

    assert judge(Request(method, path, "", {}, b"", "")) is is_slow


def test_a_digest_is_shown_as_it_was_sent() -> None:
    daemon = FakeDaemon()
    notice = SimpleNamespace(title="main: calm", lines=("Chats: waiting 1",), at=None)
    daemon.digests.sent = {"main": notice}

    page = ask(daemon, "/").body.decode()
    assert "<li>main: calm</li><li>Chats: waiting 1</li>" in page
