"""The section `notify`: webhooks for what auto-release does and for digests of the watch."""

from __future__ import annotations

import re
import string
from datetime import timedelta
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, WithJsonSchema
from pydantic_core import PydanticKnownError

from exporter.config.section import Section
from exporter.config.values import (
    SOME,
    ByName,
    Duration,
    Form,
    Name,
    SecretPath,
    between,
    fault,
    matching,
)

Event = Literal[
    "released", "would_release", "escalated", "tripped", "defect", "digest", "announcement"
]
EVENTS: tuple[Event, ...] = get_args(Event)
"""The events that can be sent."""

PLACEHOLDERS = ("event", "title", "text", "time", "database", "chat", "operator", "reason")
"""The placeholders that a custom text may hold in braces."""
_PLACEHOLDERS = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)


def _check_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    try:
        parts = urlsplit(text)
        is_url = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not re.fullmatch(r"https?://[!-~]+", text, re.IGNORECASE):
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": "https?://"})
    if parts.username is not None:
        raise fault("holds a user name", "the header Authorization in headers instead")
    return value


def _check_placeholders(value: str) -> str:
    if not value.strip():
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError:
        raise fault("has a brace without its partner", "{{ or }} for a plain brace") from None
    for _, name, form, conversion in parts:
        if name is not None and name not in PLACEHOLDERS:
            raise fault(f"holds the unknown placeholder {{{name}}}", f"any of {_PLACEHOLDERS}")
        if form or conversion:
            raise fault(f"asks for a form of {{{name}}}", f"{{{name}}} alone")
    return value


Url = Annotated[
    SecretStr,
    AfterValidator(_check_url),
    Form("is not a URL", "an http:// or https:// URL"),
    WithJsonSchema({"title": "URL", "type": "string", "minLength": 1}),
]
OwnText = Annotated[
    str,
    AfterValidator(_check_placeholders),
    Form("is not text", f"text, with any of {_PLACEHOLDERS}"),
]
HeaderName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    Form("is not a header name", "a name such as Authorization"),
]
HeaderValue = Annotated[
    SecretStr,
    matching(r"[!-~]([ -~]*[!-~])?"),
    Form("is not a header's value", "one line of plain characters"),
]


class Webhook(Section):
    """One receiver; each event is sent to it as a POST of JSON."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["url"]}, {"required": ["url_file"]}],
        }
    )

    url: Url = Field(
        description="Where to post; https:// unless the receiver is on your own network. The whole "
        "URL counts as a secret: take it from the environment with ${NAME}, or use url_file. Give "
        "exactly one of url and url_file."
    )
    url_file: SecretPath | None = Field(
        default=None,
        description="A file which holds the URL and nothing else. Relative to this file. Read "
        "again at every reload.",
    )
    events: Annotated[tuple[Event, ...], SOME] = Field(
        default=EVENTS,
        title="list of events",
        description="Which events it receives: any of " + ", ".join(EVENTS) + ". All unless given.",
    )
    template: Literal["json", "slack"] = Field(
        default="json",
        description="json: every field, for programs. slack: one text for people, as Slack, "
        "Mattermost and Rocket.Chat take it.",
    )
    text: OwnText | None = Field(
        default=None,
        description="Your own text in place of the built-in one, with any of "
        + _PLACEHOLDERS
        + ".",
    )
    timeout: Annotated[Duration, between("1s", "1m")] = Field(
        default=timedelta(seconds=10),
        description="How long one request may take, from connecting to the end of the response. At "
        "least 1s, at most 1m.",
    )
    headers: ByName[HeaderName, HeaderValue] = Field(
        default={},
        title="mapping of texts",
        description="Your own headers on every request; their values count as secrets.",
    )


class Notify(Section):
    """Webhooks that report what auto-release does, and digests of the watch."""

    webhooks: ByName[Name, Webhook] = Field(
        default={},
        title="sections by name",
        description="The receivers, each under the name its `webhook` label shows: 1 to 63 "
        "letters, digits, _, . or -.",
    )
