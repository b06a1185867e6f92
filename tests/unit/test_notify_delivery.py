"""Webhooks as a whole: queues, retries, reload and the end; nobody waits for a dead one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from exporter.notify import delivery
from exporter.notify.bodies import build_body
from exporter.notify.notices import TEST, Notice, NullNotifier
from exporter.notify.notifier import WebhookNotifier
from exporter.notify.pace import Pace
from tests.webhooks import (
    DEADLINE_S,
    OK,
    Receiver,
    answer,
    close,
    hang,
    make_webhook,
    trickle,
    wait_until,
)

SOON = Pace(first_s=0.01, most_s=0.02, give_up_s=30.0)
NEVER = Pace(first_s=600.0, most_s=600.0)


@pytest.fixture
def notifiers() -> Iterator[list[WebhookNotifier]]:
    """Stopped after the test, without patience."""
    made: list[WebhookNotifier] = []
    yield made
    for notifier in made:
        notifier.stop(0.0)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    """Every line logged; never with the secret."""
    with capture_logs() as lines:
        yield lines
    assert "sEcReT" not in str(lines)


def notice(number: int = 0, event: str = "released") -> Notice:
    """A notice that is told apart by its title."""
    return Notice(event, f"title {number}", ("a line",), {"database": "main"})


def figures(notifier: WebhookNotifier) -> dict[str, float]:
    """Every sample that is not 0, by name and label values."""
    return {
        ".".join((family.name, *(value for _, value in sample.labels))).removeprefix(
            "chatqueue_notifications_"
        ): sample.value
        for family in notifier.families
        for sample in family.samples
        if sample.value
    }


def wait_for(notifier: WebhookNotifier, name: str, value: float = 1) -> None:
    """Wait for a figure."""
    wait_until(lambda: figures(notifier).get(name) == value)


def test_notices_arrive_in_their_order_each_once(notifiers: list[WebhookNotifier]) -> None:
    with Receiver() as receiver:
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, SOON))
        sent = [notice(number) for number in range(5)]
        for each in sent:
            notifiers[0].notify(each)
        wait_for(notifiers[0], "total.ops.delivered", 5)

        ids = [received.document["id"] for received in receiver.received]
    assert ids == [str(each.id) for each in sent]
    assert figures(notifiers[0]) == {"total.ops.delivered": 5}


def test_every_child_is_there_from_the_start_and_none_without_a_webhook() -> None:
    assert WebhookNotifier({}).families == ()
    notifier = WebhookNotifier({"ops": make_webhook("http://127.0.0.1:1/")})

    samples = [(f.name, s.labels, s.value) for f in notifier.families for s in f.samples]
    total, failed = "chatqueue_notifications_total", "chatqueue_notifications_failed_requests_total"
    assert samples == [
        *(
            (total, (("webhook", "ops"), ("outcome", outcome)), 0.0)
            for outcome in ("delivered", "rejected", "expired", "dropped")
        ),
        *(
            (failed, (("webhook", "ops"), ("reason", reason)), 0.0)
            for reason in ("connection", "timeout", "status")
        ),
        ("chatqueue_notifications_queue_length", (("webhook", "ops"),), 0.0),
    ]


def test_a_webhook_hears_only_of_its_events_and_of_tests(
    notifiers: list[WebhookNotifier],
) -> None:
    with Receiver() as receiver:
        webhook = make_webhook(receiver.url, events=["escalated"])
        notifiers.append(WebhookNotifier({"ops": webhook}, SOON))
        for event in ("released", "escalated", "digest", TEST):
            notifiers[0].notify(notice(event=event))
        wait_for(notifiers[0], "total.ops.delivered", 2)

        assert receiver.events == ["escalated", "test"]


@pytest.mark.parametrize("failing", [answer(500), answer(429, Retry_After="0"), close])
def test_a_failure_that_may_pass_is_tried_again_and_logged_once(
    failing: object, notifiers: list[WebhookNotifier], logged: list[structlog.typing.EventDict]
) -> None:
    with Receiver(failing, failing, OK) as receiver:  # type: ignore[arg-type]
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, SOON))
        notifiers[0].notify(notice())
        wait_for(notifiers[0], "total.ops.delivered")

        ids = {received.document["id"] for received in receiver.received}
    reason = "connection" if failing is close else "status"
    assert figures(notifiers[0]) == {
        "total.ops.delivered": 1,
        f"failed_requests_total.ops.{reason}": 2,
    }
    assert len(ids) == 1
    assert [line["event"] for line in logged] == ["webhook fails", "webhook works again"]


def test_a_refusal_is_not_tried_again_and_holds_up_nothing(
    notifiers: list[WebhookNotifier], logged: list[structlog.typing.EventDict]
) -> None:
    with Receiver(answer(404, b"no_service"), OK) as receiver:
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, SOON))
        notifiers[0].notify(notice(1))
        notifiers[0].notify(notice(2))
        wait_for(notifiers[0], "total.ops.delivered")

        assert len(receiver.received) == 2
    assert figures(notifiers[0])["total.ops.rejected"] == 1
    lost = next(line for line in logged if line["event"] == "notice not delivered")
    assert (lost["title"], lost["outcome"]) == ("title 1", "rejected")
    assert lost["error"] == "answered 404 Not Found: no_service"


def test_a_receiver_that_asks_for_time_gets_it(notifiers: list[WebhookNotifier]) -> None:
    with Receiver(answer(503, Retry_After="1"), OK) as receiver:
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, SOON))
        started = time.monotonic()
        notifiers[0].notify(notice())
        receiver.wait_for(2)

        assert time.monotonic() - started >= 1


def test_a_notice_is_given_up_in_the_end(notifiers: list[WebhookNotifier]) -> None:
    pace = Pace(first_s=0.01, most_s=0.02, give_up_s=0.1)
    with Receiver(answer(500)) as receiver:
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, pace))
        notifiers[0].notify(notice())
        wait_for(notifiers[0], "total.ops.expired")

        assert len(receiver.received) >= 2


@pytest.mark.parametrize("dead", [hang, trickle(b"HTTP/1.1 200 OK\r\nX: "), answer(500), close])
def test_a_dead_webhook_delays_neither_another_nor_whoever_notifies(
    dead: object, notifiers: list[WebhookNotifier]
) -> None:
    with Receiver(dead) as bad, Receiver() as good:  # type: ignore[arg-type]
        webhooks = {"bad": make_webhook(bad.url), "good": make_webhook(good.url)}
        notifiers.append(WebhookNotifier(webhooks, NEVER))
        notifiers[0].notify(notice())
        bad.wait_for(1)
        for number in range(20):
            notifiers[0].notify(notice(number))
        wait_for(notifiers[0], "total.good.delivered", 21)

        assert figures(notifiers[0])["queue_length.bad"] == 21


def test_a_full_queue_drops_the_oldest_and_counts_them(
    notifiers: list[WebhookNotifier],
    logged: list[structlog.typing.EventDict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "QUEUE_LIMIT", 3)
    with Receiver(answer(500), OK) as receiver:
        webhook = make_webhook(receiver.url)
        notifiers.append(WebhookNotifier({"ops": webhook}, NEVER))
        notifiers[0].notify(notice(0))
        receiver.wait_for(1)
        for number in range(1, 6):
            notifiers[0].notify(notice(number))
        assert figures(notifiers[0])["total.ops.dropped"] == 2
        assert figures(notifiers[0])["queue_length.ops"] == 4
        # Any change ends the wait for the next try.
        notifiers[0].apply({"ops": make_webhook(receiver.url, events=["released"])})
        wait_for(notifiers[0], "total.ops.delivered", 4)

        titles = [each.document["title"] for each in receiver.received]
    assert titles == ["title 0", "title 0", "title 3", "title 4", "title 5"]
    assert [line["event"] for line in logged].count(
        "webhook's queue is full, the oldest notices go"
    ) == 1


def test_a_reload_keeps_adds_changes_and_removes(
    notifiers: list[WebhookNotifier], logged: list[structlog.typing.EventDict]
) -> None:
    with Receiver(answer(500)) as old, Receiver() as new:
        webhooks = {name: make_webhook(old.url) for name in ("kept", "changed", "removed")}
        notifiers.append(WebhookNotifier(webhooks, NEVER))
        notifiers[0].notify(notice(1))
        notifiers[0].notify(notice(2))
        wait_until(lambda: len(old.received) == 3)
        same = make_webhook(old.url)
        notifiers[0].apply(
            {"kept": same, "changed": make_webhook(new.url), "added": make_webhook(new.url)}
        )
        wait_for(notifiers[0], "total.changed.delivered", 2)
        notifiers[0].notify(notice(3))
        wait_for(notifiers[0], "total.added.delivered")

        assert len(old.received) == 3
        assert figures(notifiers[0])["queue_length.kept"] == 3
        assert not any("removed" in name for name in figures(notifiers[0]))
    (lost,) = [line for line in logged if line["event"] == "notices not delivered"]
    assert (lost["webhook"], lost["notices"], lost["events"]) == ("removed", 2, "2 released")


def test_the_end_delivers_what_can_be_delivered(notifiers: list[WebhookNotifier]) -> None:
    with Receiver(answer(500), OK) as receiver:
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, NEVER))
        for number in range(3):
            notifiers[0].notify(notice(number))
        receiver.wait_for(1)
        notifiers[0].stop(DEADLINE_S)

        assert figures(notifiers[0])["total.ops.delivered"] == 3


@pytest.mark.parametrize("dead", [answer(500), hang])
def test_the_end_counts_and_logs_what_is_not_delivered(
    dead: object, notifiers: list[WebhookNotifier], logged: list[structlog.typing.EventDict]
) -> None:
    with Receiver(dead) as receiver:  # type: ignore[arg-type]
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, NEVER))
        notifiers[0].notify(notice(event="escalated"))
        notifiers[0].notify(notice())
        notifiers[0].notify(notice())
        receiver.wait_for(1)
        started = time.monotonic()
        notifiers[0].stop(0.3)
        assert time.monotonic() - started < DEADLINE_S / 2
        notifiers[0].notify(notice())

        assert figures(notifiers[0])["total.ops.dropped"] == 4
    (lost,) = [line for line in logged if line["event"] == "notices not delivered"]
    assert (lost["notices"], lost["events"]) == (3, "1 escalated, 2 released")
    assert "no answer within" not in str(logged)
    # The request that hung was cut off, so its thread is gone, too.
    wait_until(lambda: not any(t.name == "webhook-ops" for t in threading.enumerate()))


def test_a_defect_of_ours_loses_its_notice_and_nothing_else(
    notifiers: list[WebhookNotifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(each: Notice, webhook: object) -> bytes:
        if each.title == "title 1":
            raise RuntimeError("sEcReT")
        return build_body(each, webhook)  # type: ignore[arg-type]

    monkeypatch.setattr(delivery, "build_body", build)
    with Receiver() as receiver:
        notifiers.append(WebhookNotifier({"ops": make_webhook(receiver.url)}, SOON))
        notifiers[0].notify(notice(1))
        notifiers[0].notify(notice(2))
        wait_for(notifiers[0], "total.ops.delivered")

    assert figures(notifiers[0])["total.ops.rejected"] == 1


def test_silence_tells_nobody() -> None:
    NullNotifier().notify(notice())


def test_an_idle_webhook_ends_without_ever_having_begun(
    logged: list[structlog.typing.EventDict],
) -> None:
    notifier = WebhookNotifier({"idle": make_webhook("http://127.0.0.1:1/")})
    notifier.stop(DEADLINE_S)
    notifier.notify(notice())

    assert figures(notifier) == {"total.idle.dropped": 1}
    assert not any(thread.name == "webhook-idle" for thread in threading.enumerate())
