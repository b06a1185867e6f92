"""The section `prometheus`: where the report finds what the watch saw."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, SecretStr

from exporter.config.notify import Url
from exporter.config.section import Section
from exporter.config.values import Duration, Form, SecretPath, Text, between, matching

# No line break, and nothing else that does not print.
HeaderSecret = Annotated[
    SecretStr,
    matching(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+"),
    Form("cannot be sent", "one line of plain characters"),
]


class Prometheus(Section):
    """The Prometheus that scrapes this exporter; only `chatqueue report` asks it."""

    url: Url | None = Field(
        default=None,
        description="Where its HTTP interface is, with the prefix if it has one: "
        "`http://localhost:9090`.",
    )
    username: Text | None = Field(default=None, description="For basic authentication.")
    password: HeaderSecret | None = Field(
        default=None,
        description="Its password: take it from the environment with ${NAME}, or use "
        "password_file. Give at most one of password and password_file.",
    )
    password_file: SecretPath | None = Field(
        default=None,
        description="A file which holds the password and nothing else. Relative to this file.",
    )
    bearer_token: HeaderSecret | None = Field(
        default=None,
        description="A token to send in place of user and password. Give at most one of "
        "bearer_token and bearer_token_file.",
    )
    bearer_token_file: SecretPath | None = Field(
        default=None,
        description="A file which holds the token and nothing else. Relative to this file.",
    )
    timeout: Annotated[Duration, between("1s", "10m")] = Field(
        default=timedelta(seconds=30),
        description="How long one query may take. At least 1s, at most 10m.",
    )
