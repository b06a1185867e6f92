"""Passwords never survive `redact`, in whatever form a connection string takes."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import redact

# Printable and odd; surrogates cannot be percent-encoded, NUL cannot reach libpq.
PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=20
) | st.text("ab@:/?#&='\\% $*{}\"<>,;", min_size=4, max_size=20)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://watch:secret@db/chat", "postgresql://watch:***@db/chat"),
        ("postgres://watch:secret@db/chat", "postgres://watch:***@db/chat"),
        ("PostgreSQL://watch:secret@db", "PostgreSQL://watch:***@db"),
        ("postgresql+psycopg://w:secret@db", "postgresql+psycopg://w:***@db"),
        ("https://hook:secret@example.org/x", "https://hook:***@example.org/x"),
        ("postgresql://:secret@db", "postgresql://:***@db"),
        ("postgresql://w:@db", "postgresql://w:***@db"),
        ("postgresql://w:s%40c%3Are@db", "postgresql://w:***@db"),
        ("postgresql://w:s@cr:e/t?#x@db/chat", "postgresql://w:***@db/chat"),
        ("postgresql://w:two words@db/chat", "postgresql://w:***@db/chat"),
        (
            "postgresql://w:s@a:1,b:2/chat?sslmode=require",
            "postgresql://w:***@a:1,b:2/chat?sslmode=require",
        ),
        ("postgresql://db/chat?password=secret", "postgresql://db/chat?password=***"),
        (
            "postgresql://db/c?user=w&sslpassword=s&a=b",
            "postgresql://db/c?user=w&sslpassword=***&a=b",
        ),
        ("postgresql://w:s1@db/c?password=s2&a=b", "postgresql://w:***@db/c?password=***&a=b"),
        ("postgresql://db:5432/c?password=pa@ss", "postgresql://db:***@***"),
        ("postgresql://db/c?password=pa:s@s", "postgresql://db/c?password=***"),
        ("host=db password=secret user=w", "host=db password=*** user=w"),
        ("host=db password = 'a b \\' c' user=w", "host=db password = '***' user=w"),
        ("host=db password=a\\ b user=w", "host=db password=*** user=w"),
        ("password='never closed", "password='***'"),
        ("password=\\", "password=***"),
        ("PGPASSWORD=secret chatqueue run", "PGPASSWORD=*** chatqueue run"),
        ("sslpassword=secret oauth_client_secret=x", "sslpassword=*** oauth_client_secret=***"),
        (
            'cannot reach "postgresql://w:s@db/c": refused\npostgres://x:y@z',
            'cannot reach "postgresql://w:***@db/c": refused\npostgres://x:***@z',
        ),
    ],
)
def test_masks_the_password_and_keeps_the_rest(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing to hide",
        "postgresql://db/chat",
        "postgresql://watch@db/chat",
        "postgresql://db:5432/chat is down, ask ops@example.org",
        "postgresql://db: refused, ask ops@example.org",
        "the password is wrong",
        "host=db passfile=/etc/pgpass",
    ],
)
def test_leaves_texts_without_a_password_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("scrap", ["a://b:x ", "a://", "a:", "password=", "password='", "\\", "@"])
def test_a_text_full_of_beginnings_takes_no_long_time(scrap: str) -> None:
    assert redact(scrap * 5000)


def _quoted_for_uri(password: str) -> str:
    return quote(password, safe="")


def _quoted_for_keyword(password: str) -> str:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@pytest.mark.parametrize(
    ("before", "after", "quoting"),
    [
        ("postgresql://u:", "@h:1/d", _quoted_for_uri),
        ("postgres://u:", "@h,i/d?sslmode=on", _quoted_for_uri),
        ("postgresql://h:1/d?password=", "", _quoted_for_uri),
        ("postgresql://h/d?user=u&sslpassword=", "&x=y", _quoted_for_uri),
        ("host=h password=", " user=u", _quoted_for_keyword),
        ("host=h password = ", "", _quoted_for_keyword),
        ("at postgresql://u@h/d: password=", "\nnext", _quoted_for_keyword),
    ],
)
@given(password=PASSWORDS)
def test_a_correctly_quoted_password_never_survives(
    before: str, after: str, quoting: object, password: str
) -> None:
    assert callable(quoting)
    written = quoting(password)

    redacted = redact(before + written + after)

    assert redacted in (f"{before}***{after}", f"{before}'***'{after}")


@given(password=PASSWORDS.filter(lambda text: not any(c.isspace() for c in text)))
def test_a_raw_password_in_a_uri_never_survives(password: str) -> None:
    redacted = redact(f"postgresql://u:{password}@h/d")

    assert redacted in ("postgresql://u:***@h/d", "postgresql://u:***@***")


@given(
    text=st.text("ab :/@?&='\\\n\t*", max_size=60)
    | st.lists(
        st.sampled_from(
            ["postgresql://", "a", ":", "@", "?password=", "password =", "'", "\\", " ", "&", "\n"]
        ),
        max_size=20,
    ).map("".join)
)
def test_masking_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)

    assert redact(once) == once
