"""The YAML parser's side: which YAML is read, and its complaints in plain words.

Owns the loader (safe, bounded in depth, YAML 1.2 scalars) and the wording of syntax faults. No
message here repeats text from the file, for that text may be a secret.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

DEPTH_LIMIT = 32

_CORE = "tag:yaml.org,2002:"
SAFE_TAGS: Final = {
    name: _CORE + name for name in ("str", "null", "bool", "int", "float", "map", "seq", "merge")
}

_QUOTES = "quotes around a value with special characters"
# What PyYAML says (a prefix, sometimes cut by a character from the file) → found, expected.
_COMPLAINTS = (
    (r"found character '\t'", "a tab where spaces are needed", "spaces"),
    (r"found character", "a value begins with a special character", _QUOTES),
    ("found a tab", "a tab where spaces are needed", "spaces"),
    ("mapping values are not allowed", "a second colon", f"one key per line, or {_QUOTES}"),
    ("could not find expected ':'", "a key without its colon", "key: value"),
    ("expected <block end>", "wrong indentation", "keys of one mapping under each other"),
    ("found unexpected end of stream", "a quoted text does not end", "its closing quote"),
    ("found unexpected document separator", "a quoted text does not end", "its closing quote"),
    ("expected ',' or ']'", "a list in [ ] does not end or lacks a comma", "[one, two]"),
    (
        "expected ',' or '}'",
        "a mapping in { } does not end or lacks a comma",
        "{key: value}, with quotes around a value that holds { or }",
    ),
    ("expected a single document", "a second document (---)", "one document a file"),
    ("but found another document", "a second document (---)", "one document a file"),
    ("found undefined alias", "an alias (*) without its anchor (&)", "the anchor before it"),
    ("found duplicate anchor", "an anchor (&) given twice", "each anchor once"),
    ("found unknown escape", "an unknown \\ escape in double quotes", "single quotes, or \\\\"),
    ("nested too deep", "nested too deep", f"at most {DEPTH_LIMIT} levels"),
    ("sequence entries are not allowed", "a list entry (-) in the wrong place", "it on a new line"),
    ("expected the node content", "a value is missing or malformed", _QUOTES),
)


class DocumentLoader(yaml.SafeLoader):
    """Composes nodes only; never builds objects, never goes deeper than the limit."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs
            raise yaml.composer.ComposerError(None, None, "nested too deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _resolve(name: str, pattern: str, first: str) -> None:
    DocumentLoader.add_implicit_resolver(SAFE_TAGS[name], re.compile(rf"(?:{pattern})\Z"), first)


_resolve("null", "~|null|Null|NULL|", "~nN")
DocumentLoader.yaml_implicit_resolvers[""] = DocumentLoader.yaml_implicit_resolvers["~"]
_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
# No leading zeros: 007 stays text.
_resolve("int", "[-+]?(?:0|[1-9][0-9]*)", "-+0123456789")
_resolve(
    "float",
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+.0123456789",
)
_resolve("merge", "<<", "<")


def explain(error: yaml.YAMLError, text: str) -> tuple[int, str, str]:
    """Say in plain words what the parser did not like.

    Args:
        error: Raised while `text` was composed.
        text: The whole file.

    Returns:
        The 1-based line, what was found (with its column) and what is expected.
    """
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return line, f"column {column}: a control character", "printable text"
    assert isinstance(error, yaml.MarkedYAMLError)  # noqa: S101  # the only other kind there is
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or "malformed"
    for prefix, found, expected in _COMPLAINTS:
        if problem.startswith(prefix):
            return line, f"column {column}: {found}", expected
    plain = re.sub(r"'.*'", "…", problem, flags=re.DOTALL)
    return line, f"column {column}: not YAML ({plain})", "valid YAML"
