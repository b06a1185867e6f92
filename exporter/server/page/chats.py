"""The lists of chats at `/chats`: for users and on loopback only, asked once per poll interval."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from exporter.config import Config
from exporter.metrics.figures import index_samples
from exporter.metrics.snapshot import Family
from exporter.polling.plan import Plan, build_plans
from exporter.release.plans import ReleasePlan, build_release_plans
from exporter.server.message import Request, Response
from exporter.server.page.render import respond_page
from exporter.server.page.view import PageDaemon
from exporter.text import format_value

if TYPE_CHECKING:
    from exporter.ops.chats.listing import Chat, Listing

PATH = "/chats"
MOST_SHOWN = 200
# Longer than a list takes: one that a full pool refused is asked for again then.
_CLAIM_S = 60.0
_PROXIED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))
_OFF = Response(404, _TEXT, b"not found: web.chats is off, chatqueue chats lists the chats\n")
_ASKED = Response(200, _TEXT, b"The database is being asked: look again in a moment.\n")
_FORBIDDEN = Response(
    403,
    _TEXT,
    b"The chats are shown to users (basic_auth_users of the web configuration) and on loopback "
    b"only. chatqueue chats lists them on the exporter's host.\n",
)

Read = Callable[[Plan, ReleasePlan, frozenset[str]], "Listing"]


def _read(plan: Plan, release_plan: ReleasePlan, also: frozenset[str]) -> Listing:
    """Ask one database; imported when somebody looks for the first time."""
    from exporter.ops.chats.listing import read_listing  # noqa: PLC0415

    return read_listing(plan, release_plan, also=also)


@dataclass(frozen=True, slots=True)
class Line:
    """One chat in words.

    Attributes:
        chat: Its id in full.
        state: As in the metrics; empty where there is no such chat.
        reasons: Why it is listed.
        age: In the state.
        unanswered: Since the user's first unanswered message; empty where none is owed.
        operator: Name or id; empty where nobody has it.
        operator_id: The id; empty likewise.
        seen: Since the operator's last sign of life; empty likewise.
        verdict: What auto-release would do.
        is_trouble: Whether something is wrong with it.
    """

    chat: str
    state: str
    reasons: tuple[str, ...]
    age: str
    unanswered: str
    operator: str
    operator_id: str
    seen: str
    verdict: str
    is_trouble: bool


class ChatsPage:
    """The lists of chats of one daemon.

    Args:
        daemon: Whose databases are asked.
        links: Prefix of every path in a link.
        read: Asks one database.
        monotonic: Clock.
    """

    def __init__(
        self,
        daemon: PageDaemon,
        links: str,
        *,
        read: Read = _read,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._daemon = daemon
        self._links = links
        self._read = read
        self._monotonic = monotonic
        self._config: Config | None = None
        self._plans: dict[str, tuple[Plan, ReleasePlan]] = {}
        self._answers: dict[str, tuple[float, Response]] = {}
        self._claims: dict[str, float] = {}

    def claim(self, request: Request) -> bool:
        """Return whether the request is to ask the database, which must not happen on the loop.

        While one request asks, the others get the list as it was.
        """
        if self._refuse(request) is not None:
            return False
        name, now = self._find_database(request), self._monotonic()
        if name is None or now < self._claims.get(name, now) or self._is_fresh(name):
            return False
        self._claims[name] = now + _CLAIM_S
        return True

    def respond(self, request: Request) -> Response:
        """Return a list, or why there is none."""
        refusal = self._refuse(request)
        if refusal is not None:
            return refusal
        name = self._find_database(request)
        if name is None:
            return Response(404, _TEXT, b"not found, expected ?database= with one of their names\n")
        if request.may_block and not self._is_fresh(name):
            try:
                self._answers[name] = (self._monotonic(), self._render(name))
            finally:
                self._claims.pop(name, None)
        return self._answers[name][1] if name in self._answers else _ASKED

    def _refuse(self, request: Request) -> Response | None:
        if not self._daemon.config.web.chats:
            return _OFF
        return None if request.is_user or is_local(request) else _FORBIDDEN

    def _find_database(self, request: Request) -> str | None:
        """The database that is meant: by its name, by default the first."""
        names = [worker.name for worker in self._daemon.workers]
        (name,) = parse_qs(request.query).get("database", names)[:1] or [""]
        return name if name in names else None

    def _is_fresh(self, name: str) -> bool:
        """Whether a list is not to be asked for again yet, however many look."""
        interval_s = self._daemon.config.poll.interval.total_seconds()
        return name in self._answers and self._monotonic() < self._answers[name][0] + interval_s

    def _render(self, name: str) -> Response:
        worker = next(worker for worker in self._daemon.workers if worker.name == name)
        plan, release_plan = self._find_plans(name)
        families = worker.snapshot.families(self._monotonic())
        listing = self._read(plan, release_plan, find_counted(families))
        return respond_page(
            "chat_list.html",
            links=self._links,
            listing=listing,
            lines=[_describe(chat) for chat in listing.chats[:MOST_SHOWN]],
            names=[worker.name for worker in self._daemon.workers],
        )

    def _find_plans(self, name: str) -> tuple[Plan, ReleasePlan]:
        """The plans of the configuration in force."""
        config = self._daemon.config
        if config is not self._config:
            plans, release_plans = build_plans(config), build_release_plans(config)
            self._plans = {key: (plan, release_plans[key]) for key, plan in plans.items()}
            self._config = config
        return self._plans[name]


def is_local(request: Request) -> bool:
    """Return whether somebody on this very host asks, by its own address and through no proxy."""
    host = request.headers.get("host", "").rpartition("@")[2]
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    is_proxied = any(header in request.headers for header in _PROXIED)
    # A web page elsewhere whose name was made to lead here sends that name as the host.
    is_named = name == "localhost" or _is_loopback(name)
    return _is_loopback(request.peer) and is_named and not is_proxied


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def find_counted(families: Iterable[Family]) -> frozenset[str]:
    """Return the reasons that are worth a costly list, because their gauge counts chats."""
    samples = index_samples(families)
    checks = {
        f"invalid:{labels['check']}"
        for labels, value in samples.get("chatqueue_invalid_chats", ())
        if value > 0
    }
    overdue = {
        f"overdue:{labels['severity']}"
        for labels, value in samples.get("chatqueue_state_overdue_chats", ())
        if value > 0 and labels["state"] == "waiting_real_user_reply"
    }
    return frozenset(checks | overdue)


def _describe(chat: Chat) -> Line:
    ages = (chat.age_s, chat.unanswered_s, chat.seen_s)
    age, unanswered, seen = ("" if s is None else format_value(s, "seconds") for s in ages)
    operator_id = "" if chat.operator_id is None else str(chat.operator_id)
    return Line(
        str(chat.chat_id),
        chat.state or "",
        chat.reasons,
        age,
        unanswered,
        chat.operator or operator_id,
        operator_id,
        seen,
        chat.verdict.words,
        chat.is_trouble,
    )
