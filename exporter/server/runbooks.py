"""The runbooks as HTML, served by the daemon so that they are readable offline.

Source: docs/runbooks.md. Only the Markdown that it uses is supported: headings, paragraphs, lists,
bold, code and links.
"""

from __future__ import annotations

import html
import re
from functools import cache

from exporter.config.resources import find_resource

_INLINE = (
    (re.compile(r"\*\*(.+?)\*\*"), r"<b>\1</b>"),
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2430; }}
a {{ color: #0b62c4; }}
code {{ background: #eef1f5; padding: .1em .25em; overflow-wrap: anywhere; }}
h2 {{ margin-top: 2.5rem; }}
</style></head><body>
{body}
</body></html>
"""


def render_runbooks(links: str) -> str:
    """Return all runbooks as one page; an alert's section is at its name in small letters.

    Args:
        links: Prefix of every path in a link.
    """
    parts = [_render(text, links) for text in _sections().values()]
    return _PAGE.format(title="Runbooks", body="\n".join(parts))


def render_runbook(alert: str, links: str) -> str | None:
    """Return the page of an alert's runbook, None if there is none; case is ignored."""
    text = _sections().get(alert.lower())
    if not alert or text is None:
        return None
    body = f'<p><a href="{html.escape(links)}/runbooks">All runbooks</a></p>\n'
    return _PAGE.format(title=html.escape(_title(text)), body=body + _render(text, links))


@cache
def _sections() -> dict[str, str]:
    """Return sections by anchor; the introduction has the empty one."""
    text = find_resource("docs/runbooks.md").read_text(encoding="utf-8")
    first, *others = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {"": first} | {_title(section).lower(): section for section in others}


def _title(section: str) -> str:
    return section.partition("\n")[0].lstrip("# ")


def _render(section: str, links: str) -> str:
    """Render the blocks of a section, which blank lines separate."""
    return "\n".join(_render_block(block, links) for block in section.strip().split("\n\n"))


def _render_block(block: str, links: str) -> str:
    if block.startswith("#"):
        level = 2 if block.startswith("## ") else 1
        title = html.escape(_title(block))
        return f'<h{level} id="{title.lower()}">{title}</h{level}>'
    if block.startswith("- "):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        return f"<ul>{''.join(f'<li>{render_inline(item, links)}</li>' for item in items)}</ul>"
    return f"<p>{render_inline(block, links)}</p>"


def render_inline(text: str, links: str) -> str:
    """Return Markdown's bold, code and links as HTML; a link to what is not served is text."""

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        if target.startswith("#"):
            target = f"{html.escape(links)}/runbooks{target}"
        elif not target.startswith("https://"):
            return words
        return f'<a href="{target}">{words}</a>'

    shown = html.escape(text, quote=False)
    for pattern, replacement in _INLINE:
        shown = pattern.sub(replacement, shown)
    return _LINK.sub(link, shown)
