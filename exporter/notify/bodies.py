"""A notice as the JSON that a webhook takes. Pure."""

from __future__ import annotations

import json
from typing import Any

from exporter.config.notify import Webhook
from exporter.notify.notices import Notice

VERSION = "1"
"""Of the `json` template; another one when a field changes its meaning or goes away."""

MAX_TEXT_CHARS = 3000
"""Slack wants at most 4,000; escaping may add some."""


def build_body(notice: Notice, webhook: Webhook) -> bytes:
    """Return the request's body: UTF-8 JSON by the webhook's template."""
    document = _slack(notice, webhook) if webhook.template == "slack" else _json(notice, webhook)
    return json.dumps(document, default=str).encode()


def _json(notice: Notice, webhook: Webhook) -> dict[str, Any]:
    text = "\n".join(notice.lines)
    if webhook.text is not None:
        text = webhook.text.format_map(_values(notice))
    return {
        "version": VERSION,
        "id": str(notice.id),
        "time": notice.at.isoformat(timespec="milliseconds"),
        "event": notice.event,
        "title": notice.title,
        "text": text,
        "fields": dict(notice.fields),
    }


def _slack(notice: Notice, webhook: Webhook) -> dict[str, Any]:
    values = {name: _escape(value) for name, value in _values(notice).items()}
    # The text itself is not escaped: it may mention people, as <!here> does.
    template = webhook.text if webhook.text is not None else "*{title}* ({time})\n{text}"
    text = template.format_map(values)
    if len(text) > MAX_TEXT_CHARS:
        text = text[: MAX_TEXT_CHARS - 1] + "…"
    return {"text": text}


def _values(notice: Notice) -> dict[str, str]:
    """The value of each placeholder; empty where the event has none."""
    named = {name: notice.fields.get(name) for name in ("database", "chat", "operator", "reason")}
    return {
        "event": notice.event,
        "title": notice.title,
        "text": "\n".join(notice.lines),
        "time": f"{notice.at:%H:%M:%S} UTC",
        **{name: "" if value is None else str(value) for name, value in named.items()},
    }


def _escape(text: str) -> str:
    """Keep Slack from reading a value as a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
