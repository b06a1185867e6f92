"""`make test-grafana`: every dashboard against the types of Grafana's own schema, major by major.

Needs node, npm and a package registry. Each panel's options and fields, the whole panel and the
dashboard are constants of Grafana's types, so that a key or a value that a major does not know is
an error of the compiler, with its place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MAJORS = (10, 11, 12, 13)
TYPESCRIPT = "typescript@5"
# A string of JSON is no member of an enumeration: they are widened to their values. Every object
# stays closed.
HEAD = """
type Widen<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
    : T extends (infer U)[] ? Widen<U>[] : T extends object ? {[K in keyof T]: Widen<T[K]>} : T;
"""


def main() -> int:
    """Check each major; return 1 where one refuses anything."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            print(f"{tool} is not installed: the dashboards' types were not checked")
            return 1
    refused = False
    for major in MAJORS:
        with tempfile.TemporaryDirectory(prefix="chatqueue-grafana-") as name:
            complaints = check(major, Path(name))
        print(f"Grafana {major}: {'content' if not complaints else 'refuses'}")
        print(complaints, end="")
        refused |= bool(complaints)
    return int(refused)


def check(major: int, folder: Path) -> str:
    """Return what the compiler says of every dashboard; empty where it is content."""
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    install = ("install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--no-save")
    subprocess.run(
        ["npm", *install, f"@grafana/schema@{major}", TYPESCRIPT], cwd=folder, check=True
    )
    schema = folder / "node_modules" / "@grafana" / "schema"
    for file in sorted((ROOT / "dashboards").glob("*.json")):
        text = "\n".join(write_constants(json.loads(file.read_text()), schema))
        (folder / f"{file.stem}.ts").write_text(HEAD + text)
    done = subprocess.run(
        ["npx", "tsc", "--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "bundler",
         "--module", "esnext", "--target", "es2022", *(f.name for f in folder.glob("*.ts"))],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def write_constants(dashboard: dict[str, Any], schema: Path) -> Iterator[str]:
    """Yield the lines that hold a dashboard and its panels as constants of Grafana's types."""
    yield 'import type {Dashboard, Panel} from "@grafana/schema";'
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for kind in sorted({panel["type"] for panel in panels}):
        types = find_types(schema, kind)
        yield f'import type * as {kind} from "{types}";'
    for panel in panels:
        kind, number = panel["type"], panel["id"]
        options = json.dumps(panel["options"])
        yield f"// {panel.get('title', '')}"
        yield f"const options{number}: Widen<Partial<{kind}.Options>> = {options};"
        custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
        if custom:
            fields = json.dumps(custom)
            yield f"const fields{number}: Widen<Partial<{kind}.FieldConfig>> = {fields};"
        bare = {**panel, "options": {}}
        yield f"const panel{number}: Widen<Partial<Panel>> = {json.dumps(bare)};"
    # Of variables and annotations the schema has what all kinds share, and not what each adds.
    bare = {**dashboard, "panels": [], "templating": {"list": []}, "annotations": {"list": []}}
    yield f"const dashboard: Widen<Partial<Dashboard>> = {json.dumps(bare)};"


def find_types(schema: Path, kind: str) -> str:
    """Return the module with a panel's types, which each major keeps elsewhere."""
    found = sorted(schema.glob(f"dist/*/raw/composable/{kind}/panelcfg/x/*types.gen.d.ts"))
    if not found:
        raise FileNotFoundError(f"{schema} has no types of the panel {kind}")
    return "./" + str(found[0].relative_to(schema.parents[2])).removesuffix(".d.ts")


if __name__ == "__main__":
    sys.exit(main())
