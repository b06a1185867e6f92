"""The scripts of the two roles are the files that are shipped, under other names."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.config.resources import find_resource
from exporter.release.grants import READER, RELEASER, UnsafeRoleName, build_grants

FILES = [find_resource("deploy") / "postgresql" / name for name in ("reader.sql", "releaser.sql")]


def test_what_is_printed_is_what_is_shipped() -> None:
    result = CliRunner().invoke(cli, ["grants"])

    assert result.exit_code == 0
    assert result.output == "\n".join(file.read_text() for file in FILES)
    assert "PASSWORD '" not in result.output


def test_what_repairs_need_comes_last_and_on_request() -> None:
    result = CliRunner().invoke(cli, ["grants", "--with-repairs", "--releaser", "people"])

    repairs = find_resource("deploy") / "postgresql" / "repairs.sql"
    assert result.exit_code == 0
    assert result.output.endswith("\n" + repairs.read_text().replace(RELEASER, "people"))
    assert RELEASER not in result.output


def test_only_the_names_differ() -> None:
    text = build_grants("watch", "Hand-1")

    assert READER not in text
    assert RELEASER not in text
    assert text.replace('"watch"', f'"{READER}"').count(f'"{READER}"') == build_grants().count(
        f'"{READER}"'
    )
    assert 'CREATE ROLE "Hand-1" LOGIN' in text
    assert "rolname = 'Hand-1'" in text


@pytest.mark.parametrize("default", [READER, RELEASER])
def test_a_name_stands_only_where_it_is_quoted_or_told(default: str) -> None:
    """Unquoted, a name such as `user` or `Watch` would be another one."""
    for line in build_grants(with_repairs=True).splitlines():
        if line.startswith("--") or "RAISE" in line or "has other rights" in line:
            continue
        bare = line
        for quoted in (f'"{default}', f"'{default}'"):
            bare = bare.replace(quoted, "")
        assert default not in bare, line


@pytest.mark.parametrize(
    "name",
    ["", "a b", 'a"b', "a'b", "a$b", "a;b", "a\\b", "1a", "ä", "a" * 57, "public", "none", "pg_x",
     "a\n", "a%b"],
)  # fmt: skip
@pytest.mark.parametrize("flag", ["--reader", "--releaser"])
def test_a_name_that_would_need_care_is_refused(flag: str, name: str) -> None:
    result = CliRunner().invoke(cli, ["grants", flag, name])

    assert result.exit_code == 2
    assert f"{name!r} is no name for a role, expected a letter and then at most 55" in result.output
    assert "CREATE" not in result.output


def test_the_two_are_two() -> None:
    with pytest.raises(UnsafeRoleName, match="both roles are 'same', expected two: the reader's"):
        build_grants("same", "same")


def test_the_longest_name_leaves_room_for_those_of_its_policies() -> None:
    assert f'"{"a" * 56}_update"' in build_grants("b", "a" * 56)
    assert len("a" * 56 + "_update") <= 63
