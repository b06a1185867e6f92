"""Whether the application answers at the URLs of `verify.endpoints`."""

from __future__ import annotations

import json
import time
from typing import Any

import requests

from exporter.config.verify import Endpoint
from exporter.notify.answers import Answer
from exporter.notify.sending import Exchange, describe_status
from exporter.ops.verify.checks import Check

_LIMIT_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_TODO = "look at the application's own logs; see docs/verify.md"


def check_endpoint(name: str, endpoint: Endpoint) -> Check:
    """Ask one endpoint and judge its answer; never raises for the application's sake.

    Args:
        name: In the configuration.
        endpoint: What to ask, and what is good.
    """
    headers = {key: value.get_secret_value() for key, value in endpoint.headers.items()}
    url, limit_s = endpoint.url.get_secret_value(), endpoint.within.total_seconds()
    started_s = time.monotonic()
    answer = Exchange("GET", url, headers, limit_s, lambda r: _judge(r, endpoint)).run()
    took = f"{time.monotonic() - started_s:.2f} s"
    if not answer.failure:
        return Check("endpoint", name, True, f"{answer.words} in {took}")
    return Check("endpoint", name, False, answer.words, _describe(endpoint), _TODO)


def _describe(endpoint: Endpoint) -> str:
    """The answer that is good, in words."""
    parts = [str(endpoint.status)]
    if endpoint.text is not None:
        parts.append(f"with {endpoint.text!r}")
    if endpoint.json_path is not None:
        parts.append(f"with {endpoint.json_path} = {endpoint.json_value}")
    return f"{' '.join(parts)} within {endpoint.within.total_seconds():g} s"


def _judge(response: requests.Response, endpoint: Endpoint) -> Answer:
    """Status first, then the body, of which no more is read than a page has."""
    words = describe_status(response)
    body = _read_body(response)
    if response.status_code != endpoint.status:
        return Answer("status", words)
    if len(body) > _LIMIT_BYTES:
        return Answer("status", f"{words} with more than {_LIMIT_BYTES // 1024} KiB")
    if endpoint.text is not None and endpoint.text not in body.decode("utf-8", "replace"):
        return Answer("status", f"{words} without the text")
    if endpoint.json_path is not None:
        problem = _compare(body, endpoint.json_path, endpoint.json_value or "")
        if problem:
            return Answer("status", f"{words} with {problem}")
    return Answer("", words)


def _read_body(response: requests.Response) -> bytes:
    body = b""
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > _LIMIT_BYTES:
            break
    return body


def _compare(body: bytes, path: str, expected: str) -> str:
    """What is wrong with a value of a body of JSON; empty where nothing is."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return "a body that is no JSON"
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return f"no {path}"
    found = value if isinstance(value, str) else json.dumps(value)
    return "" if found == expected else f"{path} = {found[:60]}"
