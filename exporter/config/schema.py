"""The JSON Schema of the configuration, for editors.

Stricter rules than a schema can say (critical ≥ warning, timeout ≤ interval) stay with the model.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import CoreSchema

from exporter.config.model import Config, Database
from exporter.config.notify import Webhook
from exporter.text import format_duration

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}
# What is kept of pydantic's schema of a value; titles stand at the key.
_WORDS = frozenset((
    *("type", "enum", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
))  # fmt: skip
_TITLES = {
    "date-time": "time",
    "integer": "whole number",
    "number": "share",
    "password": "secret",
    "path": "path",
    "string": "text",
}


class _Generator(GenerateJsonSchema):
    """Titles name the kind of value, not the key again; defaults stand as the file writes them."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        return False

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> Schema:
        return {"$schema": DIALECT, **super().generate(schema, mode)}


def config_schema() -> Schema:
    """Give the JSON Schema (draft 2020-12) of the configuration file.

    Returns:
        A fresh dict, the same at every call. It accepts whatever `load_config` accepts, `${NAME}`
        included; some files it accepts have faults that only `load_config` sees.
    """
    schema = Config.model_json_schema(schema_generator=_Generator)
    schema["title"] = "chatqueue-exporter configuration"
    for section in (schema, *schema["$defs"].values()):
        for key, property_ in section["properties"].items():
            section["properties"][key] = _tidied(property_)
    for name, section in schema["$defs"].items():
        # dsn is required only where dsn_file is not given, which oneOf says; a URL likewise.
        section.pop("required", None)
        # A section whose keys are all commented out is null to YAML.
        has_secret = name in (Database.__name__, Webhook.__name__)
        section["type"] = "object" if has_secret else ["object", "null"]
    return schema


def schema_text() -> str:
    """Write the schema as it is shipped: indented JSON with a newline at its end."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidied(property_: Schema) -> Schema:
    """Give a key its title, allow `${NAME}` and, where it may be left blank, null."""
    # A section's default is the sum of its keys' defaults.
    is_silent = "$ref" in property_ or property_.get("default", ...) is None
    kept = {"description"} if is_silent else {"description", "default"}
    rest = {key: value for key, value in property_.items() if key in kept}
    match property_:
        case {"type": "array", "title": title, "items": items}:
            kind = {"title": title, "type": ["array", "null"], "items": _value(items)}
        case {"patternProperties": patterns, "title": title}:
            kind = {
                "title": title,
                "type": ["object", "null"] if "default" in property_ else "object",
                "patternProperties": {name: _value(value) for name, value in patterns.items()},
                "additionalProperties": False,
            }
        case {"$ref": reference}:
            kind = {"$ref": reference}
        case _:
            kind = {"title": _title(property_), **_value(property_)}
    return kind | rest


def _value(kind: Schema) -> Schema:
    """The forms of a value; any but free text may also come out of the environment."""
    if "$ref" in kind:
        return kind
    options = [
        {key: value for key, value in option.items() if key in _WORDS}
        for option in kind.get("anyOf", [kind])
    ]
    is_free = any(
        option.keys() <= {"type", "minLength"} and "string" in option["type"]
        for option in options
        if "type" in option
    )
    options = options if is_free else [*options, _VARIABLE]
    return options[0] if len(options) == 1 else {"anyOf": options}


def _title(kind: Schema) -> str:
    match kind:
        case {"title": str(title)}:
            return title
        case {"anyOf": options}:
            return " or ".join(_title(option) for option in options if option != {"type": "null"})
        case {"enum": words}:
            listed = ", ".join(word for word in words if word is not False)
            return " or ".join(listed.rsplit(", ", 1))
    return _TITLES[str(kind.get("format", kind["type"]))]
