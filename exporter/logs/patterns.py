"""The named patterns, and which of them a line matches.

RE2 rather than Python's `re`: its time is linear in the line whatever the expression, so that no
log can stop the thread. All patterns are matched in one pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exporter.logs.entries import Entry

OTHER = "other"
"""The kind of what no pattern matches."""

_FAILED = (
    r"(?:fail(?:ed|ure|s|ing)?|errors?|exception|could ?n[o']t|cannot|unable|rejected|timed? ?out)"
)
_REFUSED = (
    r"(?:unauthori[sz]ed|forbidden|(?:invalid|missing|wrong|bad) (?:cron )?(?:secret|token|"
    r"authorization)|status(?:code)?[=: ]+40[13]\b)"
)
_CRON = r"\b(?:cron(?:job)?s?|scheduled (?:job|task)s?|idle[ _-]?detect(?:or|ion))\b"
_ASSIGN = r"(?:re|un)?assign(?:ment|ments|ed|ing|_?chat\w*|_chat_to_operator)?"
_TRANSITION = r"state[ _-]?transitions?"

BUILT_IN = {
    "cron_unauthorized": rf"(?i){_CRON}.*{_REFUSED}|{_REFUSED}.*{_CRON}",
    "cron_failure": rf"(?i){_CRON}.*\b{_FAILED}\b|\b{_FAILED}\b.*{_CRON}",
    "state_transition_error": (
        rf"(?i)\b(?:invalid|illegal|unexpected|disallowed)(?: chat)? {_TRANSITION}"
        rf"|\b{_TRANSITION}.*\b(?:{_FAILED}|invalid|not allowed)\b"
        rf"|\b{_FAILED}\b.*\b{_TRANSITION}\b"
        r"|chk_assigned_state_has_operator|chk_waiting_reply_has_timestamp"
        r"|chats_chat_state_check|chat is not currently assigned|chat not found or not active"
    ),
    "assignment_error": (
        rf"(?i)\b{_FAILED}\b.*\b{_ASSIGN}\b|\b{_ASSIGN}\b.*\b{_FAILED}\b"
        r"|assign_chat_to_operator.*\braised\b"
    ),
}
"""Messages of the platform when something is wrong; the first that matches names the line."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Names the kind of an entry.

    Attributes:
        kinds: Every kind there is; a line is of the first that matches, the last is `other`.
    """

    kinds: tuple[str, ...]
    _set: Any

    def judge(self, entry: Entry) -> tuple[str, str]:
        """Return kind and level; a line that a pattern matches and that names no level is an error.

        Args:
            entry: Its text may hold anything, lone surrogates included.
        """
        matches = self._set.Match(entry.text.encode(errors="replace")) if entry.text else None
        if not matches:
            return OTHER, entry.level
        return self.kinds[min(matches)], "error" if entry.level == OTHER else entry.level


def build_judge(own: Mapping[str, str | None]) -> Judge:
    """Compile the patterns.

    Args:
        own: From the configuration, which come first; None switches a built-in one off.
    """
    # Not for a daemon without log sources: 3.6 MB.
    import re2  # noqa: PLC0415

    names = [name for name, expression in own.items() if expression is not None]
    patterns = {name: own[name] for name in names}
    patterns |= {name: BUILT_IN[name] for name in BUILT_IN if name not in own}
    options = re2.Options()
    options.log_errors = False
    matcher = re2.Set.SearchSet(options)
    for expression in patterns.values():
        matcher.Add(expression)
    matcher.Compile()
    return Judge((*patterns, OTHER), matcher)
