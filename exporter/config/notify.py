"""The section `notify`: webhooks for what auto-release does and for digests of the watch."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)

from exporter.config.section import Section
from exporter.config.values import (
    EMPTY_MEANS_NONE,
    FREEZE,
    FROM_ENVIRONMENT,
    Duration,
    FilePath,
    between,
    fault,
)

EVENTS = ("released", "would_release", "escalated", "tripped", "defect", "digest")
"""The events that can be sent."""

TEMPLATES = ("json", "slack")
PLACEHOLDERS = ("event", "title", "text", "time", "database", "chat", "operator", "reason")
"""The placeholders that a custom text may hold in braces."""

URL_FORM = "an http:// or https:// URL"


def read_url(value: object) -> str:
    """Check that a value can be a webhook's URL; no message repeats it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str | None):
        raise fault("is not text", URL_FORM)
    if not text:
        raise fault("is empty", URL_FORM)
    try:
        parts = urlsplit(text)
        is_url = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not re.fullmatch(r"https?://[!-~]+", text, re.IGNORECASE):
        raise fault("is not a URL", URL_FORM)
    if parts.username is not None:
        raise fault("holds a user name", "the header Authorization in headers instead")
    return text


def _read_event(value: object) -> str:
    if value in EVENTS:
        return str(value)
    raise fault("is not an event", f"one of {', '.join(EVENTS)}")


def _at_least_one_event(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise fault("no event is named", "at least one, or no key events for all", bare=True)
    return value


def _check_webhook_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,63}", name):
        raise fault("is not a webhook name", "1 to 63 letters, digits, _, . or -")
    return name


def _check_header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise fault("is not a header name", "a name such as Authorization")
    return name


def _read_header(value: object) -> str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise fault("is not a header's value", "one line of plain characters")
    return text


def _read_own_text(value: object) -> str:
    listed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    if not isinstance(value, str) or not value.strip():
        raise fault(
            "is empty" if isinstance(value, str) else "is not text", f"text, with any of {listed}"
        )
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError:
        raise fault("has a brace without its partner", "{{ or }} for a plain brace") from None
    for _, name, form, conversion in parts:
        if name is not None and name not in PLACEHOLDERS:
            raise fault(f"holds the unknown placeholder {{{name}}}", f"any of {listed}")
        if form or conversion:
            raise fault(f"asks for a form of {{{name}}}", f"{{{name}}} alone")
    return value


def _words(title: str, words: tuple[str, ...]) -> WithJsonSchema:
    """Describe a choice, which may also come out of the environment."""
    options = [{"enum": list(words)}, {"type": "string", "pattern": FROM_ENVIRONMENT}]
    return WithJsonSchema({"title": title, "anyOf": options})


Url = Annotated[
    SecretStr,
    BeforeValidator(read_url),
    WithJsonSchema({"title": "URL", "type": "string", "minLength": 1}),
]
Event = Annotated[str, PlainValidator(_read_event), _words("event", EVENTS)]
Template = Annotated[Literal["json", "slack"], _words("json or slack", TEMPLATES)]
OwnText = Annotated[
    str,
    PlainValidator(_read_own_text),
    WithJsonSchema({"title": "text", "type": "string", "minLength": 1}),
]
WebhookName = Annotated[
    str,
    AfterValidator(_check_webhook_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-zA-Z0-9_.-]{1,63}$"}),
]
HeaderName = Annotated[
    str,
    AfterValidator(_check_header_name),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"}),
]
HeaderValue = Annotated[
    SecretStr,
    BeforeValidator(_read_header),
    WithJsonSchema({"title": "text", "type": "string", "minLength": 1}),
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
    url_file: FilePath | None = Field(
        default=None,
        description="A file which holds the URL and nothing else. Relative to this file. Read "
        "again at every reload.",
    )
    events: Annotated[tuple[Event, ...], AfterValidator(_at_least_one_event)] = Field(
        default=EVENTS,
        title="list of events",
        description="Which events it receives: any of " + ", ".join(EVENTS) + ". All unless given.",
    )
    template: Template = Field(
        default="json",
        description="json: every field, for programs. slack: one text for people, as Slack, "
        "Mattermost and Rocket.Chat take it.",
    )
    text: OwnText | None = Field(
        default=None,
        description="Your own text in place of the built-in one, with any of "
        + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        + ".",
    )
    timeout: Annotated[Duration, between("1s", "1m")] = Field(
        default=timedelta(seconds=10),
        description="How long one request may take, from connecting to the end of the response. At "
        "least 1s, at most 1m.",
    )
    headers: Annotated[Mapping[HeaderName, HeaderValue], EMPTY_MEANS_NONE, FREEZE] = Field(
        default={},
        title="mapping of texts",
        description="Your own headers on every request; their values count as secrets.",
    )


class Notify(Section):
    """Webhooks that report what auto-release does, and digests of the watch."""

    webhooks: Annotated[Mapping[WebhookName, Webhook], EMPTY_MEANS_NONE, FREEZE] = Field(
        default={},
        title="sections by name",
        description="The receivers, each under the name its `webhook` label shows: 1 to 63 "
        "letters, digits, _, . or -.",
    )
