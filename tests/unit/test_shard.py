"""Which shard takes a database: even shares, and a further shard moves only its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.config import load_config
from exporter.config.shard import Shard
from exporter.daemon import Daemon
from exporter.server.page.view import build_view

NAMES = tuple(f"tenant-{number}" for number in range(1000))


def owners(count: int) -> dict[str, int]:
    shards = [Shard(index, count) for index in range(count)]
    taken = {name: [shard.index for shard in shards if shard.takes(name)] for name in NAMES}
    assert {len(indexes) for indexes in taken.values()} == {1}
    return {name: index for name, (index,) in taken.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, 16])
def test_no_shard_has_much_more_than_its_share(count: int) -> None:
    shares = Counter(owners(count).values())

    assert len(shares) == count
    assert max(shares.values()) <= 1.3 * len(NAMES) / count


def test_a_ninth_shard_moves_only_what_it_takes() -> None:
    before, after = owners(8), owners(9)

    moved = {name for name in NAMES if before[name] != after[name]}

    assert {after[name] for name in moved} == {8}
    assert moved == {name for name in NAMES if after[name] == 8}


def test_a_name_stays_where_it_is_whatever_the_version() -> None:
    # Another answer would move databases between the daemons of everybody who upgrades.
    assert [owners(8)[name] for name in NAMES[:12]] == [0, 6, 6, 7, 7, 6, 3, 6, 4, 0, 7, 5]


def test_a_configuration_holds_the_databases_of_its_shard(tmp_path: Path) -> None:
    file = tmp_path / "chatqueue.yaml"
    sections = "".join(f"  {name}: {{dsn: host=db}}\n" for name in NAMES[:20])
    file.write_text(f"databases:\n{sections}")

    parts = [set(load_config(file, {}, shard=Shard(index, 3)).databases) for index in range(3)]

    assert sorted(name for part in parts for name in part) == sorted(NAMES[:20])
    assert all(parts)


def test_a_shard_without_databases_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "chatqueue.yaml"
    file.write_text("databases: {main: {dsn: host=db}}\n")

    said = {
        CliRunner().invoke(cli, ["check-config", "--config.file", str(file), "--shard", s]).output
        for s in ("0/2", "1/2")
    }

    assert {text.split(": ")[1].split(",")[0] for text in said} == {"0 databases", "1 database"}


def test_a_daemon_without_databases_is_ready_and_serves_its_own_metrics(tmp_path: Path) -> None:
    file = tmp_path / "chatqueue.yaml"
    file.write_text("databases: {main: {dsn: host=db}}\n")
    (empty,) = (Shard(n, 2) for n in range(2) if not Shard(n, 2).takes("main"))
    daemon = Daemon(file, empty)
    daemon.start()
    daemon.reload()

    ready, stalled, page = daemon.is_ready(), daemon.is_healthy(), daemon.exposition.page("")
    live_page = build_view(daemon)

    assert daemon.stop(5)
    assert (live_page.tone, live_page.verdict) == ("ok", "No database is watched here")
    assert (ready, stalled) == (True, ())
    assert "chatqueue_exporter_build_info{" in page.body.decode()
    assert "database=" not in page.body.decode()


@pytest.mark.parametrize("text", ["", "2", "8/8", "-1/8", "1/0", "a/b", "0/1001", "1/8/9", " 1/8"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shard, expected its number from 0"):
        Shard.parse(text)


def test_the_option_says_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("databases: {main: {dsn: host=db}}\n")

    result = CliRunner().invoke(
        cli, ["check-config", "--config.file", str(tmp_path / "c.yaml"), "--shard", "8/8"]
    )

    assert result.exit_code == 2
    assert "Invalid value for '--shard': '8/8' is not a shard, expected" in result.output
