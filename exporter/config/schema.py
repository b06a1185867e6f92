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
    """Fold `anyOf: [kind, null]` into one kind, close mappings, drop defaults that say nothing."""
    match property_:
        case {"anyOf": [kind, {"type": "null"}]}:
            rest = {key: value for key, value in property_.items() if key != "anyOf"}
            property_ = {**kind, "type": [kind["type"], "null"], **rest}
        case {"type": "array"}:
            property_ = {**property_, "type": ["array", "null"]}
        case {"patternProperties": _}:
            nullable = {"type": ["object", "null"]} if "default" in property_ else {}
            property_ = {**property_, **nullable, "additionalProperties": False}
    # A section's default is the sum of its keys' defaults.
    if "$ref" in property_ or property_.get("default", ...) is None:
        property_ = {key: value for key, value in property_.items() if key != "default"}
    return property_
