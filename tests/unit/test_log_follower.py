"""A followed file gives each of its lines once, whatever is done to it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.logs.follower import LINGER_S, Follower
from exporter.logs.lines import MAX_LINE_BYTES, LineSplitter


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Followed:
    """A path, what is done to it, and what came of it."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self.path = path
        self.clock = Clock()
        self.follower = Follower(path, from_end=from_end, clock=self.clock)

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def poll(self) -> list[bytes]:
        return [line for lines in self.follower.poll() for line in lines]

    def let_linger(self) -> list[bytes]:
        self.clock.now += LINGER_S
        return self.poll()

    def drops(self, reason: str = "truncated") -> int:
        return self.follower.take_drops()[reason]


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    followed = Followed(tmp_path / "app.log")
    yield followed
    followed.follower.close()


def test_lines_come_once_and_only_when_they_have_ended(followed: Followed) -> None:
    followed.write(b"one\ntw")
    first = followed.poll()
    followed.write(b"o\r\n\n  \nthree\n")

    assert (first, followed.poll(), followed.poll()) == ([b"one"], [b"two\r", b"three"], [])


def test_nul_bytes_and_invalid_utf8_are_no_obstacle(followed: Followed) -> None:
    followed.write(b"\0\0\0a\xff\0b\n\0\0\n")

    assert followed.poll() == [b"a\xffb"]


def test_of_a_huge_line_the_beginning_is_given_and_the_next_line_whole(followed: Followed) -> None:
    followed.write(b"x" * (3 * MAX_LINE_BYTES))
    before = followed.poll()
    followed.write(b"y" * 1_000_000 + b"\nnext\n")

    assert before == []
    assert followed.poll() == [b"x" * MAX_LINE_BYTES, b"next"]
    assert followed.drops("long_line") == 1


def test_a_file_that_is_there_is_read_from_its_end(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "app.log", from_end=True)
    followed.write(b"old\nhalf")
    first = followed.poll()
    followed.write(b" of it\nnew\n")

    assert (first, followed.poll()) == ([], [b"new"])
    followed.follower.close()


def test_a_file_that_comes_later_is_read_from_its_start(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "app.log", from_end=True)
    assert (followed.poll(), followed.follower.is_up) == ([], False)
    assert followed.follower.problem == "No such file or directory"

    followed.write(b"new\n")
    assert (followed.poll(), followed.follower.is_up) == ([b"new"], True)
    followed.follower.close()


def test_renamed_and_created_anew(followed: Followed) -> None:
    followed.write(b"one\n")
    assert followed.poll() == [b"one"]

    followed.write(b"two\nthree without an end")
    followed.path.rename(followed.path.with_suffix(".1"))
    followed.write(b"four\n")
    assert followed.poll() == [b"two", b"four"]
    assert followed.let_linger() == [b"three without an end"]
    assert followed.drops() == 0


def test_a_writer_that_learns_late_of_the_rotation_loses_nothing(followed: Followed) -> None:
    with followed.path.open("ab", buffering=0) as old:
        old.write(b"one\n")
        assert followed.poll() == [b"one"]
        followed.path.rename(followed.path.with_suffix(".1"))
        old.write(b"two\n")
        assert (followed.poll(), followed.follower.is_up) == ([b"two"], False)
        followed.write(b"four\n")
        assert followed.poll() == [b"four"]
        old.write(b"three\n")

        assert followed.poll() == [b"three"]


def test_copied_and_truncated(followed: Followed) -> None:
    followed.write(b"one\ntwo\n")
    assert followed.poll() == [b"one", b"two"]

    shutil.copy(followed.path, followed.path.with_suffix(".1"))
    os.truncate(followed.path, 0)
    followed.write(b"three\n")
    assert followed.poll() == [b"three"]
    assert followed.drops() == 1


@pytest.mark.parametrize("again", [b"three\n", b"one longer than it was\n" * 9, b"uno\ndos\n"])
def test_truncated_and_grown_again_between_two_looks(followed: Followed, again: bytes) -> None:
    followed.write(b"one\ntwo\n")
    followed.poll()
    os.truncate(followed.path, 0)
    followed.write(again)

    assert followed.poll() == again.splitlines()


def test_truncated_in_the_middle_of_a_line(followed: Followed) -> None:
    followed.write(b"one\nhalf")
    assert followed.poll() == [b"one"]
    os.truncate(followed.path, 0)

    assert followed.poll() == [b"half"]


def test_a_writer_that_goes_on_at_its_old_place_leaves_a_hole(followed: Followed) -> None:
    with followed.path.open("wb", buffering=0) as writer:
        writer.write(b"one\n" * 1000)
        followed.poll()
        os.truncate(followed.path, 0)
        writer.write(b"two\n")

    assert followed.poll() == [b"two"]


def test_deleted_and_created_anew(followed: Followed) -> None:
    followed.write(b"one\ntwo")
    assert followed.poll() == [b"one"]
    followed.path.unlink()
    followed.poll()
    assert followed.follower.problem == "No such file or directory"

    followed.write(b"three\n")
    assert followed.poll() == [b"three"]
    assert followed.let_linger() == [b"two"]


def test_a_deleted_file_is_let_go(followed: Followed) -> None:
    followed.write(b"one\n")
    followed.poll()
    followed.path.unlink()
    followed.poll()
    before = open_files(followed.path)
    followed.let_linger()

    assert (before, open_files(followed.path)) == (1, 0)


def open_files(path: Path) -> int:
    """How many descriptors of this process lead to a file of that name, deleted or not."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(link.readlink()).startswith(str(path))
    return found


def test_a_symbolic_link_that_is_switched_there_and_back(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "current")
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"")
    followed.path.symlink_to("a")
    followed.poll()
    for turn, name in enumerate(("a", "b", "a")):
        with (tmp_path / name).open("ab") as file:
            file.write(b"%d\n" % turn)
        (tmp_path / "next").symlink_to(name)
        (tmp_path / "next").rename(followed.path)

        assert followed.poll() == [b"%d" % turn]
    followed.follower.close()


def test_many_rotations_at_once_hold_few_files(followed: Followed) -> None:
    for number in range(30):
        followed.write(b"%d" % number)
        followed.poll()
        followed.path.rename(followed.path.with_suffix(f".{number}"))
    found = followed.poll() + followed.let_linger()

    assert open_files(followed.path.parent) <= 9
    assert found == [b"%d" % number for number in range(30 - len(found) - 1, 29)]


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_file_is_told(followed: Followed, kind: str) -> None:
    followed.path.mkdir() if kind == "folder" else os.mkfifo(followed.path)

    assert followed.poll() == []
    assert (followed.follower.is_up, followed.follower.problem) == (False, "not a regular file")


def test_a_file_that_may_not_be_read_is_told_and_read_once_it_may(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.write(b"one\n")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert followed.poll() == []
    assert (followed.follower.is_up, followed.follower.problem) == (False, "Permission denied")

    assert (followed.poll(), followed.follower.is_up) == ([b"one"], True)


def test_a_disk_that_fails_is_told_and_read_on_where_it_was(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.write(b"one\n")
    followed.poll()
    followed.write(b"two\n")

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        assert followed.poll() == []
    assert followed.follower.problem == "Input/output error"

    assert followed.poll() == [b"two"]


def test_a_file_cut_off_while_it_is_read_is_read_on_later(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed.write(b"one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: b"")
        assert followed.poll() == []

    assert followed.poll() == [b"one"]


def test_whoever_stops_in_the_middle_goes_on_there(followed: Followed) -> None:
    lines = [b"%06d" % number for number in range(100_000)]
    followed.write(b"\n".join(lines) + b"\n")
    found = []
    while chunk := next(followed.follower.poll(), None):
        found += chunk

    assert found == lines


def test_a_splitter_gives_the_same_lines_however_the_bytes_are_cut() -> None:
    data = b"one\ntwo\0\n\n" + b"x" * 70_000 + b"\nthree"
    for size in (997, 4096, 32_768, 100_000):
        splitter = LineSplitter()
        cut = [data[place : place + size] for place in range(0, len(data), size)]
        found = [line for piece in cut for line in splitter.feed(piece)] + splitter.finish()

        assert found == [b"one", b"two", b"x" * MAX_LINE_BYTES, b"three"]
        assert splitter.long_lines == 1


class Rotations(RuleBasedStateMachine):
    """Writers, rotation tools and the follower in any order.

    Every line is numbered, so that one lost or doubled is seen. What is truncated away before it
    was read is lost by its nature, and is taken out of what is expected.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"rotations-{os.getpid()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.followed = Followed(self.folder / "app.log")
        self.writer = self.followed.path.open("ab", buffering=0)
        self.number = 0
        self.rotations = 0
        self.unread: list[bytes] = []  # in the file of the path, ended, not polled yet
        self.begun = b""
        self.expected: list[bytes] = []
        self.found: list[bytes] = []

    def teardown(self) -> None:
        self.writer.close()
        self.poll()
        self.found += self.followed.let_linger()
        assert sorted(self.found) == sorted(self.expected)
        self.followed.follower.close()
        shutil.rmtree(self.folder)

    @rule(count=st.integers(1, 5), size=st.sampled_from([1, 100, 5000]))
    def write_lines(self, count: int, size: int) -> None:
        for _ in range(count):
            self.number += 1
            rest = b"%d " % self.number + b"\xff" * size + b" %d" % self.number
            self.writer.write(rest + b"\n")
            self.unread.append(self.begun + rest)
            self.begun = b""

    @precondition(lambda self: not self.begun)
    @rule()
    def begin_a_line(self) -> None:
        self.number += 1
        self.begun = b"%d begun " % self.number
        self.writer.write(self.begun)

    @rule()
    def poll(self) -> None:
        self.expected += self.unread
        self.unread = []
        self.found += self.followed.poll()

    @rule()
    def rename(self) -> None:
        self.begin_anew(
            lambda: self.followed.path.rename(self.folder / f"app.log.{self.rotations}")
        )

    @rule()
    def delete(self) -> None:
        self.begin_anew(self.followed.path.unlink)

    def begin_anew(self, take_away: Callable[[], object]) -> None:
        # Looked at before: a file that came and went between two looks was never there.
        self.poll()
        self.write_lines(1, 1)
        take_away()
        self.writer.close()
        self.writer = self.followed.path.open("ab", buffering=0)
        self.rotations += 1
        if self.begun:
            self.expected.append(self.begun)
            self.begun = b""

    @rule()
    def truncate(self) -> None:
        self.poll()
        os.truncate(self.followed.path, 0)
        if self.begun:
            self.expected.append(self.begun)
            self.begun = b""
        self.poll()

    @rule()
    def truncate_before_it_is_read(self) -> None:
        self.poll()
        self.expected += [self.begun] if self.begun else []
        self.write_lines(1, 1)
        os.truncate(self.followed.path, 0)
        self.unread = []

    @invariant()
    def nothing_is_doubled(self) -> None:
        assert len(self.found) == len(set(self.found))


Rotations.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestRotations = Rotations.TestCase
