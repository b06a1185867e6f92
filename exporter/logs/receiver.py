"""`POST /ingest/logs/<name>`: who may send, and the answer to a body.

A request is answered when its lines are counted. With any other answer than 200 none of them was
counted, so that the sender may send them again: no line is lost or counted twice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from exporter.config import LogReceiver
from exporter.logs.bodies import read_entries, unpack
from exporter.logs.counts import Counts
from exporter.logs.envelopes import LogsRefused
from exporter.logs.patterns import Judge
from exporter.server.message import Request, Response

PATH = "/ingest/logs"

_TEXT = ("Content-Type", "text/plain; charset=utf-8")
# The same for a wrong name, a wrong token and a wrong signature: it reveals nothing.
_UNAUTHORIZED = Response(
    401, (_TEXT, ("WWW-Authenticate", 'Bearer realm="logs"')), b"401 Unauthorized\n"
)
_NOT_POST = Response(405, (_TEXT, ("Allow", "POST")), b"method not allowed, expected POST\n")
_REASONS = {401: "unauthorized", 408: "incomplete", 413: "too_large", 415: "unsupported"}
_REASONS |= {503: "busy"}


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules in force; replaced as a whole by a reload."""

    receivers: Mapping[str, LogReceiver] = field(default_factory=dict)
    judge: Judge | None = None


class Receiver:
    """Takes log lines over HTTP; the `Uploads` of the server, and its answer to such requests.

    Attributes:
        path: What its requests begin with; longer where the daemon is served below a prefix.

    Args:
        counts: Where lines and refusals are counted.
    """

    max_body_bytes = 2 * 1024 * 1024

    def __init__(self, counts: Counts) -> None:
        self.path = PATH
        self._counts = counts
        self._rules = _Rules()

    def apply(self, receivers: Mapping[str, LogReceiver], judge: Judge | None) -> None:
        """Put receivers in force, which were applied to `counts` before."""
        for name in receivers:
            self._counts.set_up(name, up=True)
        self._rules = _Rules(receivers, judge)

    def takes(self, path: str) -> bool:
        """Return whether a path is a receiver's; none is while nothing is configured."""
        return bool(self._rules.receivers) and (
            path == self.path or path.startswith(f"{self.path}/")
        )

    def admit(self, path: str, headers: Mapping[str, str]) -> Response | None:
        """Refuse a request by its head where possible: a signature needs the body."""
        name, receiver = self._find(path)
        if receiver is None:
            return _UNAUTHORIZED
        if receiver.token is not None:
            admitted = _has_token(receiver, headers)
        else:
            admitted = bool(headers.get(receiver.signature_header))
        return None if admitted else _signed(receiver, self._refuse(name, _UNAUTHORIZED))

    def refuse(self, path: str, response: Response) -> Response:
        """Count a request that the server refuses; its sender must recognise that response too."""
        name, receiver = self._find(path)
        return _signed(receiver, self._refuse(name, response))

    def answer(self, request: Request) -> Response:
        """Count a body's lines.

        Returns:
            200 when every line is counted; any other status when none is.
        """
        rules = self._rules
        name, receiver = self._find(request.path)
        if request.method != "POST":
            return _signed(receiver, _NOT_POST)
        if receiver is None or rules.judge is None:
            return _UNAUTHORIZED
        return _signed(receiver, self._take(name, receiver, rules.judge, request))

    def _take(self, name: str, receiver: LogReceiver, judge: Judge, request: Request) -> Response:
        """Count the lines of a body if its sender is authentic."""
        if not _is_authentic(receiver, request):
            return self._refuse(name, _UNAUTHORIZED)
        headers = request.headers
        try:
            body = unpack(request.body, headers.get("content-encoding", ""))
            entries = read_entries(body, headers.get("content-type", ""))
            events = Counter(map(judge.judge, entries))
        except LogsRefused as error:
            return self._refuse(name, Response(error.status, (_TEXT,), f"{error}\n".encode()))
        self._counts.add(name, events)
        return Response(200, (_TEXT,))

    def _find(self, path: str) -> tuple[str, LogReceiver | None]:
        """The receiver a path names; the only one where it names none."""
        receivers = self._rules.receivers
        name = path.removeprefix(self.path).removeprefix("/")
        if not name and len(receivers) == 1:
            name = next(iter(receivers))
        return name, receivers.get(name)

    def _refuse(self, name: str, response: Response) -> Response:
        self._counts.drop(name, _REASONS.get(response.status, "malformed"))
        return response


def _signed(receiver: LogReceiver | None, response: Response) -> Response:
    """The response with the receiver's own headers."""
    if receiver is None or not receiver.response_headers:
        return response
    own = tuple((name, v.get_secret_value()) for name, v in receiver.response_headers.items())
    return replace(response, headers=(*response.headers, *own))


def _is_authentic(receiver: LogReceiver, request: Request) -> bool:
    """Whether the token, or the signature of the body as it was sent, is right."""
    if receiver.secret is None:
        return _has_token(receiver, request.headers)
    key = receiver.secret.get_secret_value().encode()
    digest = hmac.digest(key, request.body, receiver.algorithm)
    given = request.headers.get(receiver.signature_header, "").strip()
    given = given.removeprefix(f"{receiver.algorithm}=")
    return hmac.compare_digest(given.lower().encode(), digest.hex().encode()) | (
        hmac.compare_digest(given.encode(), base64.b64encode(digest))
    )


def _has_token(receiver: LogReceiver, headers: Mapping[str, str]) -> bool:
    if receiver.token is None:
        return False
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Digests, so that not even the token's length can be timed.
    right = hashlib.sha256(receiver.token.get_secret_value().encode()).digest()
    same = hmac.compare_digest(hashlib.sha256(given.strip().encode()).digest(), right)
    return same and scheme.lower() == "bearer"
