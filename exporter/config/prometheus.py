"""The section `prometheus`: where the report finds what the watch saw."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, PlainValidator, SecretStr, WithJsonSchema

from exporter.config.notify import Url
from exporter.config.section import Section
from exporter.config.values import Duration, FilePath, Text, between, fault

HEADER_FORM = "one line of plain characters"


def read_header_secret(value: object) -> SecretStr | None:
    """Check that a value can stand in a header; no message repeats it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text is None:
        return None
    if not isinstance(text, str) or not text or not text.isprintable():
        raise fault("cannot be sent", HEADER_FORM)
    return SecretStr(text)


Secret = Annotated[
    SecretStr | None,
    PlainValidator(read_header_secret),
    WithJsonSchema({"title": "text", "type": ["string", "null"], "minLength": 1}),
]


class Prometheus(Section):
    """The Prometheus that scrapes this exporter; only `chatqueue report` asks it."""

    url: Url | None = Field(
        default=None,
        description="Where its HTTP interface is, with the prefix if it has one: "
        "`http://localhost:9090`.",
    )
    username: Text | None = Field(default=None, description="For basic authentication.")
    password: Secret = Field(
        default=None,
        description="Its password: take it from the environment with ${NAME}, or use "
        "password_file. Give at most one of password and password_file.",
    )
    password_file: FilePath | None = Field(
        default=None,
        description="A file which holds the password and nothing else. Relative to this file.",
    )
    bearer_token: Secret = Field(
        default=None,
        description="A token to send in place of user and password. Give at most one of "
        "bearer_token and bearer_token_file.",
    )
    bearer_token_file: FilePath | None = Field(
        default=None,
        description="A file which holds the token and nothing else. Relative to this file.",
    )
    timeout: Annotated[Duration, between("1s", "10m")] = Field(
        default=timedelta(seconds=30),
        description="How long one query may take. At least 1s, at most 10m.",
    )
