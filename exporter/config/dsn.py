"""Connection strings and web addresses without their secrets.

Owns the masking of passwords in any text. Knows the three places where libpq takes a password (a
URI's userinfo, its query string, keyword form) and nothing else about connections.
"""

from __future__ import annotations

import re

MASK = "***"

_KEY = r"(?:(?:ssl)?password|oauth_client_secret|scram_(?:client|server)_key)"

# One pass from the left: a form that has begun swallows whatever looks like another inside it.
# The bounds keep a text of 100,000 colons from taking seconds; no password is that long.
_SECRET = re.compile(
    rf"""
    (?P<query> [?&]{_KEY}= ) [^&\s]*
    | (?P<keyword> {_KEY}\s*=\s* )
      (?: (?P<quote>') (?:\\.|[^'\\])* (?:'|\\?\Z)   # an open quote runs to the end of the text
        | (?:\\.|[^\s\\])+ (?:\\\Z)? | \\\Z )
    | (?P<uri> (?<![\w+.-])\w[\w+.-]*:// (?: (?![?&]{_KEY}=)[^\s:@] )* : )
      (?P<rest> \S{{0,2048}}@\S*
        # A raw blank in a password: on to an @ of the line, unless the colon announces a port.
        | (?!\d*(?:[/,?\#\s]|\Z)) [^@\n]{{1,256}}@\S* )
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


_MOST_PASSES = 8


def redact(text: str) -> str:
    """Mask every password in a text that may hold connection strings.

    Args:
        text: A DSN, or a message with some in it; URI, query-string and keyword form.

    Returns:
        The text with each password replaced by `***`. Where raw `@`, `/` or `?` make it unclear
        how far a password goes, too much is masked rather than too little. Masking twice changes
        nothing more.
    """
    # What one pass leaves may look like a connection string in its turn.
    for _ in range(_MOST_PASSES):
        masked = _SECRET.sub(_mask, text)
        if masked == text:
            break
        text = masked
    return text


def mask_urls(text: str) -> str:
    """Mask all but the host of every web address in a text: a webhook's path is its secret."""
    return re.sub(r"(https?://[^\s/?#]*)[/?#]\S*", rf"\1/{MASK}", text, flags=re.IGNORECASE)


def _mask(match: re.Match[str]) -> str:
    if match["query"]:
        return match["query"] + MASK
    if match["keyword"]:
        quote = match["quote"] or ""
        return f"{match['keyword']}{quote}{MASK}{quote}"
    return _mask_userinfo(match)


def _mask_userinfo(match: re.Match[str]) -> str:
    # libpq ends the userinfo at the first @; people paste passwords with @ in them, so the last
    # one counts here.
    password, _, tail = match["rest"].rpartition("@")
    if re.search(rf"[?&]{_KEY}=", password, re.IGNORECASE):
        # That @ may as well stand inside a query-string password: nothing behind it is safe.
        return f"{match['uri']}{MASK}@{MASK}"
    return f"{match['uri']}{MASK}@{redact(tail)}"
