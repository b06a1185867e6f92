"""The section `logs`: where log lines come from, and what to look for in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from exporter.config.notify import HeaderName as ResponseHeaderName
from exporter.config.notify import HeaderValue
from exporter.config.section import Section
from exporter.config.values import (
    EMPTY_MEANS_NONE,
    FREEZE,
    FROM_ENVIRONMENT,
    FilePath,
    fault,
)

SECRET_FORM = "16 to 1024 characters without blanks"  # noqa: S105  the form, not a secret

_MAX_ENTRIES = 32
_MAX_PATTERN_BYTES = 256 * 1024
_NAME = "^[a-zA-Z0-9_.-]{1,63}$"


def read_secret(value: object) -> str | None:
    """Check that a value can be a token or a signing secret; no message repeats it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text is None:
        return None
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]{16,1024}", text):
        raise fault("is no secret to rely on", SECRET_FORM)
    return text


def _check_source_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise fault("is not a source name", "1 to 63 letters, digits, _, . or -")
    return name


def _check_pattern_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise fault("is not a pattern name", "small letters, digits and _, such as cron_failure")
    if name == "other":
        raise fault("is what no pattern matches", "another name")
    return name


def _read_expression(value: object) -> str | None:
    if value is False or value == "off":
        return None
    if not isinstance(value, str) or not value:
        raise fault("is given" if value is None else "is not an expression", "RE2 syntax, or off")
    import re2  # noqa: PLC0415  not for the many who have no expressions of their own

    options = re2.Options()
    options.log_errors, options.max_mem = False, _MAX_PATTERN_BYTES
    try:
        matches_nothing = re2.compile(value, options).search("") is not None
    except re2.error as error:
        said = error.args[0] if error.args else ""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise fault(f"cannot be used ({text})", "RE2 syntax, or off") from None
    if matches_nothing:
        raise fault("matches every line", "an expression which an empty line does not match")
    return value


def _read_header_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9-]{1,64}", value):
        raise fault("is not a header's name", "letters, digits and -")
    return value.lower()


def _few(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(value) > _MAX_ENTRIES:
        raise fault(f"{len(value)} entries", f"at most {_MAX_ENTRIES}", bare=True)
    return value


def _one_of(*words: str) -> WithJsonSchema:
    options = [{"enum": list(words)}, {"type": "string", "pattern": FROM_ENVIRONMENT}]
    return WithJsonSchema({"title": " or ".join(words), "anyOf": options})


Secret = Annotated[
    SecretStr | None,
    BeforeValidator(read_secret),
    WithJsonSchema({"title": "secret", "type": ["string", "null"], "minLength": 1}),
]
SourceName = Annotated[
    str, AfterValidator(_check_source_name), WithJsonSchema({"type": "string", "pattern": _NAME})
]
PatternName = Annotated[
    str,
    AfterValidator(_check_pattern_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}),
]
Expression = Annotated[
    str | None,
    PlainValidator(_read_expression),
    WithJsonSchema(
        {
            "title": "expression or off",
            "anyOf": [{"type": "string", "minLength": 1}, {"enum": ["off", False]}],
        }
    ),
]
HeaderName = Annotated[
    str,
    PlainValidator(_read_header_name),
    WithJsonSchema(
        {
            "title": "header name",
            "type": "string",
            "pattern": f"^[A-Za-z0-9-]{{1,64}}$|{FROM_ENVIRONMENT}",
        }
    ),
]
FEW = AfterValidator(_few)
_SERVERS_OWN = frozenset((
    "connection", "content-length", "content-type", "date", "transfer-encoding",
))  # fmt: skip


def _check_response_headers(value: Mapping[str, Any]) -> Mapping[str, Any]:
    taken = sorted(name for name in value if name.lower() in _SERVERS_OWN)
    if taken:
        raise fault(f"{taken[0]} is set by the server", "another header", bare=True)
    return value


class LogReceiver(Section):
    """One sender of log lines over HTTP, to `POST /ingest/logs/<name>`."""

    token: Secret = Field(
        default=None,
        description="What the sender puts after `Authorization: Bearer`. Give exactly one of "
        "token and secret, or its file.",
    )
    token_file: FilePath | None = Field(
        default=None, description="A file which holds the token and nothing else."
    )
    secret: Secret = Field(
        default=None,
        description="The key with which the sender signs each body (HMAC, hex or base64).",
    )
    secret_file: FilePath | None = Field(
        default=None, description="A file which holds the secret and nothing else."
    )
    signature_header: HeaderName = Field(
        default="x-vercel-signature", description="The header with the signature."
    )
    algorithm: Annotated[Literal["sha1", "sha256"], _one_of("sha1", "sha256")] = Field(
        default="sha1", description="The hash of the signature: sha1 or sha256."
    )
    response_headers: Annotated[
        Mapping[ResponseHeaderName, HeaderValue],
        EMPTY_MEANS_NONE,
        FREEZE,
        FEW,
        AfterValidator(_check_response_headers),
    ] = Field(
        default={},
        title="mapping of texts",
        description="Headers of every response to this sender, refusals too: for a sender that "
        "asks for proof of ownership, such as `{x-vercel-verify: ${VERIFY}}`. Any client that "
        "knows the receiver's name can read them.",
    )

    @field_validator("secret")
    @classmethod
    def _exactly_one(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if "token" in info.data and (info.data["token"] is None) is (secret is None):
            found = "neither" if secret is None else "both"
            raise fault(f"{found} of token and secret", "exactly one of them", bare=True)
        return secret


class Logs(Section):
    """Errors in the platform's logs. Nothing is read unless a source is configured."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    files: Annotated[Mapping[SourceName, FilePath], EMPTY_MEANS_NONE, FREEZE, FEW] = Field(
        default={},
        title="mapping of paths",
        description="Log files to follow, each under the name its `source` label shows: "
        "`app: /var/log/chat/app.log`. Followed through rotation; need not exist yet. Relative to "
        "this file.",
    )
    from_: Annotated[Literal["end", "start"], _one_of("end", "start")] = Field(
        default="end",
        alias="from",
        description="Where to start in a file that exists when the daemon starts: end or start.",
    )
    receivers: Annotated[Mapping[SourceName, LogReceiver], EMPTY_MEANS_NONE, FREEZE, FEW] = Field(
        default={},
        title="sections by name",
        description="Senders of log lines over HTTP, such as log drains of hosted platforms, each "
        "under the name its `source` label shows.",
    )
    patterns: Annotated[Mapping[PatternName, Expression], EMPTY_MEANS_NONE, FREEZE, FEW] = Field(
        default={},
        title="mapping of expressions",
        description="Regular expressions (RE2) of your own, each under the name its `kind` label "
        "shows; they come before the built-in ones, replace one of the same name, and `off` "
        "disables one: `payment_error: '(?i)payment .*failed'`.",
    )

    @field_validator("receivers")
    @classmethod
    def _names_differ(
        cls, receivers: Mapping[str, LogReceiver], info: ValidationInfo
    ) -> Mapping[str, LogReceiver]:
        twice = sorted(receivers.keys() & info.data.get("files", {}).keys())
        if twice:
            raise fault(f"{twice[0]} is a file's name too", "another name", bare=True)
        return receivers
