"""What a service manager hears, and the sockets that it hands over."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.manager import Manager, take_sockets


class Listener:
    """The manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.settimeout(5)
        self.environ = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[str]:
        """Every message so far."""
        self._socket.setblocking(False)
        messages = []
        try:
            while True:
                messages.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "the abstract namespace"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    name = f"@chatqueue-test-{os.getpid()}"
    listener = Listener(name if request.param != "a path" else str(tmp_path / "notify"))
    yield listener
    listener.close()


def make(listener: Listener, state: dict[str, object], **environ: str) -> Manager:
    return Manager(
        lambda: bool(state["ready"]),
        lambda: bool(state["alive"]),
        lambda: str(state["status"]),
        {**listener.environ, **environ},
    )


def test_it_is_ready_once_and_says_how_it_is_when_that_changes(listener: Listener) -> None:
    state: dict[str, object] = {"ready": False, "alive": True, "status": "0 of 1"}
    manager = make(listener, state)
    assert manager._run_once() < 1
    assert listener.heard() == ["STATUS=0 of 1"]
    state |= {"ready": True, "status": "1 of 1"}
    assert manager._run_once() == 10
    assert listener.heard() == ["READY=1", "STATUS=1 of 1"]
    manager._run_once()
    assert listener.heard() == []


def test_the_watchdog_is_fed_only_while_every_thread_turns(listener: Listener) -> None:
    state: dict[str, object] = {"ready": True, "alive": True, "status": ""}
    manager = make(listener, state, WATCHDOG_USEC="6000000", WATCHDOG_PID=str(os.getpid()))
    assert manager._run_once() == 2
    assert "WATCHDOG=1" in listener.heard()
    state["alive"] = False
    manager._run_once()
    assert "WATCHDOG=1" not in listener.heard()


def test_a_watchdog_of_another_process_or_none_is_not_fed(listener: Listener) -> None:
    state: dict[str, object] = {"ready": True, "alive": True, "status": ""}
    for environ in ({"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}, {}):
        make(listener, state, **environ)._run_once()
        assert "WATCHDOG=1" not in listener.heard()


def test_a_reload_begins_with_its_time_and_ends(listener: Listener) -> None:
    manager = make(listener, {"ready": True, "alive": True, "status": ""})
    manager.tell_reloading()
    manager.tell_reloaded()
    begun, ended = listener.heard()
    assert begun.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert begun.partition("USEC=")[2].isdecimal()
    assert ended == "READY=1"


def test_where_nobody_listens_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        manager = Manager(lambda: True, lambda: True, lambda: "", environ)
        manager.tell(READY=1)
        manager.start()
        assert manager.stop(5)


def test_sockets_of_another_process_are_left_alone() -> None:
    assert take_sockets({}) == ()
    assert take_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == ()
    assert take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == ()
