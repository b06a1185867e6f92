"""The section `notify`: what it takes, what it says of anything else, and never the URL."""

# ruff: noqa: E501  # messages stand whole, as an operator reads them
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from exporter.config import Config, load_config
from exporter.config.notify import EVENTS
from exporter.errors import ConfigError

SECRET = "sEcReT"
URL = f"https://hooks.example/services/{SECRET}"
HEAD = "databases: {main: {dsn: host=db}}\nnotify:\n  webhooks:\n"
ENVIRON = {"URL": URL, "TOKEN": f"Bearer {SECRET}", "EMPTY": "", "WORD": SECRET}
FORM = "expected an http:// or https:// URL"
PLACEHOLDERS = "{event}, {title}, {text}, {time}, {database}, {chat}, {operator}, {reason}"
LISTED = "released, would_release, escalated, tripped, defect, digest or announcement"
PLACE = "F:4: notify.webhooks.ops"


def load(folder: Path, text: str) -> Config:
    """Load what stands below `notify.webhooks`."""
    path = folder / "chatqueue.yaml"
    path.write_text(HEAD + text)
    return load_config(path, ENVIRON)


def test_a_webhook_needs_a_url_only(tmp_path: Path) -> None:
    webhook = load(tmp_path, '    ops: {url: "${URL}"}\n').notify.webhooks["ops"]

    assert webhook.url.get_secret_value() == URL
    assert (webhook.events, webhook.template, webhook.text) == (EVENTS, "json", None)
    assert webhook.timeout == timedelta(seconds=10)


def test_everything_can_be_said_and_no_secret_is_in_a_repr(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{URL}\n")
    config = load(
        tmp_path,
        "    ops:\n      url_file: url\n      events: [escalated, digest]\n"
        '      template: slack\n      text: "{title} {{}}"\n      timeout: 3s\n'
        '      headers: {Authorization: "${TOKEN}"}\n',
    )
    webhook = config.notify.webhooks["ops"]

    assert webhook.url.get_secret_value() == URL
    assert webhook.url_file == tmp_path / "url"
    assert webhook.events == ("escalated", "digest")
    assert webhook.headers["Authorization"].get_secret_value() == f"Bearer {SECRET}"
    assert webhook.text == "{title} {{}}"
    assert SECRET not in repr(config) + str(config.model_dump())


FAULTS = {
    "nothing": (
        "ops:",
        f"{PLACE}.url: neither url nor url_file is given, expected exactly one of them",
    ),
    "both": (
        f"ops: {{url: {URL}, url_file: x}}",
        f"{PLACE}.url_file: stands beside url, expected only one of the two",
    ),
    "no scheme": (
        f"ops: {{url: hooks.example/{SECRET}}}",
        f"{PLACE}.url: the value is not a URL, {FORM}",
    ),
    "another scheme": (
        f"ops: {{url: 'ftp://h/{SECRET}'}}",
        f"{PLACE}.url: the value is not a URL, {FORM}",
    ),
    "no host": (
        f"ops: {{url: 'https:///{SECRET}'}}",
        f"{PLACE}.url: the value is not a URL, {FORM}",
    ),
    "a port that is none": (
        f"ops: {{url: 'https://h:99999/{SECRET}'}}",
        f"{PLACE}.url: the value is not a URL, {FORM}",
    ),
    "a blank in it": (
        f"ops: {{url: 'https://h/a {SECRET}'}}",
        f"{PLACE}.url: the value is not a URL, {FORM}",
    ),
    "a user": (
        f"ops: {{url: 'https://me:{SECRET}@h/'}}",
        f"{PLACE}.url: the value holds a user name, expected the header Authorization in headers instead",
    ),
    "an empty variable": ('ops: {url: "${EMPTY}"}', f"{PLACE}.url: the value is empty, {FORM}"),
    "a number": ("ops: {url: 5}", f"{PLACE}.url: the value is not text, {FORM}"),
    "a file that is missing": (
        "ops: {url_file: nowhere}",
        f"{PLACE}.url_file: 'nowhere': no such file, expected a file holding an http:// or https:// URL",
    ),
    "a file with something else": (
        "ops: {url_file: word}",
        f"{PLACE}.url_file: 'word': its content is not a URL, expected a file holding an http:// or https:// URL",
    ),
    "the url for the section": (
        f"ops: {URL}",
        (
            f"{PLACE}: 'https://hooks.example/***' is not a mapping, expected a mapping with url, url_file, "
            "events, template, text, timeout, headers"
        ),
    ),
    "a list": (
        f"- url: {URL}",
        "F:3: notify.webhooks: a list is not a mapping, expected a mapping, one name: value per line",
    ),
    "name": (
        f"'a b': {{url: {URL}}}",
        "F:4: notify.webhooks.a b: 'a b' is not a name, expected 1 to 63 letters, digits, _, . or -",
    ),
    "unknown event": (
        f"ops: {{url: {URL}, events: [tripped, paused, 5]}}",
        (
            f"{PLACE}.events[1]: 'paused' is not known, expected {LISTED}\n"
            f"{PLACE}.events[2]: 5 is not known, expected {LISTED}"
        ),
    ),
    "one event, and unknown": (
        f"ops: {{url: {URL}, events: [paused]}}",
        f"{PLACE}.events[0]: 'paused' is not known, expected {LISTED}",
    ),
    "no event": (
        f"ops: {{url: {URL}, events: []}}",
        f"{PLACE}.events: a list has no entries, expected at least one",
    ),
    "template": (
        f"ops: {{url: {URL}, template: xml}}",
        f"{PLACE}.template: 'xml' is not known, expected json or slack",
    ),
    "unknown placeholder": (
        f"ops: {{url: {URL}, text: 'in {{databse}}'}}",
        f"{PLACE}.text: 'in {{databse}}' holds the unknown placeholder {{databse}}, expected any of {PLACEHOLDERS}",
    ),
    "a placeholder that reaches into python": (
        f"ops: {{url: {URL}, text: '{{title.__class__}}'}}",
        (
            f"{PLACE}.text: '{{title.__class__}}' holds the unknown placeholder {{title.__class__}}, "
            f"expected any of {PLACEHOLDERS}"
        ),
    ),
    "a placeholder with a form": (
        f"ops: {{url: {URL}, text: '{{title:>9999999}}'}}",
        f"{PLACE}.text: '{{title:>9999999}}' asks for a form of {{title}}, expected {{title}} alone",
    ),
    "a placeholder without a name": (
        f"ops: {{url: {URL}, text: '{{}}'}}",
        f"{PLACE}.text: '{{}}' holds the unknown placeholder {{}}, expected any of {PLACEHOLDERS}",
    ),
    "an open brace": (
        f"ops: {{url: {URL}, text: 'a {{'}}",
        f"{PLACE}.text: 'a {{' has a brace without its partner, expected {{{{ or }}}} for a plain brace",
    ),
    "text": (
        f"ops: {{url: {URL}, text: 5}}\n    b: {{url: {URL}, text: ' '}}\n    c: {{url: {URL}, text: ''}}",
        (
            f"{PLACE}.text: 5 is not text, expected text, with any of {PLACEHOLDERS}\n"
            f"F:5: notify.webhooks.b.text: ' ' is empty, expected text, with any of {PLACEHOLDERS}\n"
            f"F:6: notify.webhooks.c.text: '' is empty, expected text, with any of {PLACEHOLDERS}"
        ),
    ),
    "timeout": (
        f"ops: {{url: {URL}, timeout: 2m}}",
        f"{PLACE}.timeout: '2m' is too long, expected 1m or less",
    ),
    "header": (
        f'ops: {{url: {URL}, headers: {{"a b": x, X-A: "a\\n{SECRET}", X-B: 5}}}}',
        (
            f"{PLACE}.headers.a b: 'a b' is not a header name, expected a name such as Authorization\n"
            f"{PLACE}.headers.X-A: the value is not a header's value, expected one line of plain characters\n"
            f"{PLACE}.headers.X-B: the value is not text, expected one line of plain characters"
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_and_the_url_is_not(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "word").write_text(SECRET)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"    {text}\n")

    assert str(caught.value).replace(f"{tmp_path}/chatqueue.yaml", "F") == message
    assert SECRET not in message
