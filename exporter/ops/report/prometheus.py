"""Prometheus's HTTP interface: an expression in, numbers out, or the reason why not."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import requests

from exporter.config.prometheus import Prometheus
from exporter.errors import ChatqueueError

_LIMIT_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_MAX_WORDS = 300


class PrometheusError(ChatqueueError):
    """One question was not answered; the message has no secret in it."""


class PrometheusUnreachable(PrometheusError):
    """No answer at all; nothing more is asked, for each question would wait as long."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer.

    Attributes:
        labels: Without the metric's name.
        points: Unix time and value, in order; one of an instant query. NaN where it was none.
    """

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Client:
    """Queries one Prometheus; a context manager.

    Args:
        settings: Of the configuration, with a URL.
    """

    def __init__(self, settings: Prometheus) -> None:
        if settings.url is None:
            raise PrometheusUnreachable("no prometheus.url is configured")
        self._url = settings.url.get_secret_value().rstrip("/")
        self._timeout_s = settings.timeout.total_seconds()
        self._failure: PrometheusUnreachable | None = None
        self._session = requests.Session()
        self._session.auth = _as_it_is
        if settings.bearer_token is not None:
            token = settings.bearer_token.get_secret_value()
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif settings.username is not None:
            password = settings.password.get_secret_value() if settings.password else ""
            # requests writes latin-1; Prometheus reads UTF-8.
            user, secret = (t.encode().decode("latin-1") for t in (settings.username, password))
            self._session.auth = (user, secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def query(self, expression: str, at_s: float) -> tuple[Series, ...]:
        """Return an expression's series at one time.

        Raises:
            PrometheusError: It was refused, or the answer makes no sense.
            PrometheusUnreachable: There was no answer in time.
        """
        return self._get("query", "vector", {"query": expression, "time": f"{at_s:.3f}"})

    def query_range(
        self, expression: str, since_s: float, until_s: float, step_s: int
    ) -> tuple[Series, ...]:
        """Return an expression's series over a range of time, both ends included.

        Raises:
            PrometheusError: As `query`.
        """
        span = {"start": f"{since_s:.3f}", "end": f"{until_s:.3f}", "step": str(step_s)}
        return self._get("query_range", "matrix", {"query": expression, **span})

    def _get(self, path: str, kind: str, parameters: dict[str, str]) -> tuple[Series, ...]:
        if self._failure is not None:
            raise self._failure
        try:
            # A form, for a selector may be longer than a URL.
            status, body = self._post(f"{self._url}/api/v1/{path}", parameters)
        except PrometheusUnreachable as error:
            self._failure = error
            raise
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if 300 <= status < 400:
            raise PrometheusError(f"it answered {status}, and redirects are not followed")
        if status != requests.codes.ok:
            reason = document.get("error") if isinstance(document, dict) else None
            words = f": {reason}"[:_MAX_WORDS] if isinstance(reason, str) else ""
            raise PrometheusError(f"it answered {status}{words}")
        try:
            return _read(document, kind)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PrometheusError("its answer is not one of Prometheus's") from None

    def _post(self, url: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        """Status and body, within the time allowed from the beginning to the last byte."""
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        try:
            with self._session.post(
                url,
                data=parameters,
                timeout=self._timeout_s,
                stream=True,
                allow_redirects=False,
            ) as response:
                for chunk in response.iter_content(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > _LIMIT_BYTES:
                        raise PrometheusError("its answer is too large")
                    if time.monotonic() > deadline:
                        raise PrometheusUnreachable("it did not answer in time")
                return response.status_code, bytes(body)
        except requests.Timeout:
            raise PrometheusUnreachable("it did not answer in time") from None
        except requests.RequestException as error:
            # Its words may hold the URL, which may hold a secret.
            raise PrometheusUnreachable(f"no answer ({type(error).__name__})") from None


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authenticate by nothing but what is configured; requests would look into ~/.netrc."""
    return request


def _read(document: Any, kind: str) -> tuple[Series, ...]:
    data = document["data"]
    if document["status"] != "success" or data["resultType"] != kind:
        raise ValueError("another kind of answer")
    key = "values" if kind == "matrix" else "value"
    found = []
    for entry in data["result"]:
        labels = {str(k): str(v) for k, v in entry["metric"].items() if k != "__name__"}
        pairs = entry[key] if kind == "matrix" else [entry[key]]
        points = tuple((_finite(at), float(value)) for at, value in pairs)
        found.append(Series(labels, points))
    return tuple(found)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a time is no number")
    return number
