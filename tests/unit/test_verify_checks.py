"""Verdicts that no server of the tests could bring about."""

from __future__ import annotations

import pytest

from exporter.ops.verify.checks import check_distribution, check_server


def test_a_server_that_is_too_old_is_refused() -> None:
    version, clock = check_server(130_012, in_recovery=False, clock_skew_s=0.0)

    assert (version.ok, version.found) == (False, "PostgreSQL 13.12, primary")
    assert "stuck_chats" in version.todo
    assert clock.ok


def test_a_standby_serves() -> None:
    version, _ = check_server(180_001, in_recovery=True, clock_skew_s=0.0)

    assert (version.ok, version.found) == (True, "PostgreSQL 18.1, standby")


@pytest.mark.parametrize("skew_s", [5.1, -5.1])
def test_a_clock_that_is_off_is_named(skew_s: float) -> None:
    _, clock = check_server(180_001, in_recovery=False, clock_skew_s=skew_s)

    assert (clock.ok, clock.found) == (False, f"{skew_s:+.1f} s from this host's")
    assert "chrony" in clock.todo


@pytest.mark.parametrize("skew_s", [5.0, -5.0, 0.0])
def test_a_clock_that_is_near_enough_is_well(skew_s: float) -> None:
    _, clock = check_server(180_001, in_recovery=False, clock_skew_s=skew_s)

    assert clock.ok
    assert clock.todo == ""


def test_a_queue_without_chats_is_plausible() -> None:
    check = check_distribution([])

    assert (check.ok, check.found) == (True, "no chats")


def test_a_quiet_night_in_which_every_user_was_answered_is_plausible() -> None:
    assert check_distribution([{"state": "waiting_real_user_reply", "chats": 5000}]).ok
