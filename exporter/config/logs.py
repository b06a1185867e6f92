"""The section `logs`: where log lines come from, and what to look for in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from exporter.config.notify import HeaderName, HeaderValue
from exporter.config.section import Section
from exporter.config.values import (
    ByName,
    FilePath,
    Form,
    Name,
    OrOff,
    SecretPath,
    Text,
    fault,
    matching,
)

_MAX_PATTERN_BYTES = 256 * 1024
_FEW = Field(max_length=32)


def _check_pattern_name(name: str) -> str:
    if name == "other":
        raise fault("is what no pattern matches", "another name")
    return name


def _check_expression(value: str) -> str:
    import re2  # noqa: PLC0415  not for the many who have no expressions of their own

    options = re2.Options()
    options.log_errors, options.max_mem = False, _MAX_PATTERN_BYTES
    try:
        matches_nothing = re2.compile(value, options).search("") is not None
    except re2.error as error:
        said = error.args[0] if error.args else ""
        text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise fault(f"cannot be used ({text})", "RE2 syntax") from None
    if matches_nothing:
        raise fault("matches every line", "an expression which an empty line does not match")
    return value


Secret = Annotated[
    SecretStr,
    matching(r"[!-~]{16,1024}"),
    Form("is no secret to rely on", "16 to 1024 characters without blanks"),
]
PatternName = Annotated[
    str,
    Field(pattern="^[a-z][a-z0-9_]{0,62}$"),
    Form("is not a pattern name", "small letters, digits and _, such as cron_failure"),
    AfterValidator(_check_pattern_name),
]
Expression = OrOff[
    Annotated[Text, AfterValidator(_check_expression), Form("is not an expression", "RE2 syntax")]
]
SignatureHeader = Annotated[
    str,
    StringConstraints(pattern="^[A-Za-z0-9-]{1,64}$", to_lower=True),
    Form("is not a header's name", "letters, digits and -"),
]
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

    token: Secret | None = Field(
        default=None,
        description="What the sender puts after `Authorization: Bearer`. Give exactly one of "
        "token and secret, or its file.",
    )
    token_file: SecretPath | None = Field(
        default=None, description="A file which holds the token and nothing else."
    )
    secret: Secret | None = Field(
        default=None,
        description="The key with which the sender signs each body (HMAC, hex or base64).",
    )
    secret_file: SecretPath | None = Field(
        default=None, description="A file which holds the secret and nothing else."
    )
    signature_header: SignatureHeader = Field(
        default="x-vercel-signature", description="The header with the signature."
    )
    algorithm: Literal["sha1", "sha256"] = Field(
        default="sha1", description="The hash of the signature: sha1 or sha256."
    )
    response_headers: Annotated[
        ByName[HeaderName, HeaderValue], _FEW, AfterValidator(_check_response_headers)
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

    files: Annotated[ByName[Name, FilePath], _FEW] = Field(
        default={},
        title="mapping of paths",
        description="Log files to follow, each under the name its `source` label shows: "
        "`app: /var/log/chat/app.log`. Followed through rotation; need not exist yet. Relative to "
        "this file.",
    )
    from_: Literal["end", "start"] = Field(
        default="end",
        alias="from",
        description="Where to start in a file that exists when the daemon starts: end or start.",
    )
    receivers: Annotated[ByName[Name, LogReceiver], _FEW] = Field(
        default={},
        title="sections by name",
        description="Senders of log lines over HTTP, such as log drains of hosted platforms, each "
        "under the name its `source` label shows.",
    )
    patterns: Annotated[ByName[PatternName, Expression], _FEW] = Field(
        default={},
        title="mapping of expressions",
        description="Your own regular expressions (RE2), each under the name its `kind` label "
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
