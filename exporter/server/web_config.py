"""The web configuration file: TLS, users and headers, in the Prometheus exporter-toolkit's format.

Every fault is reported at once. Passwords, their hashes and keys never enter a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
)

from exporter.config.document import read_document
from exporter.config.faults import FaultList
from exporter.config.values import Switch, fault
from exporter.errors import ConfigError, Fault
from exporter.server.message import HeaderPairs
from exporter.server.tls import TlsServer, TlsSettings, ToolkitSection, build_tls

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
# Secrets in a wrong place: a hash, a private key, or in a key what follows `user:` if the blank
# was forgotten.
_SECRET = re.compile(r"\$2[a-z]?\$[0-9]*\$[./A-Za-z0-9]*…?|-----BEGIN[^']*")
_BEHIND_COLON = re.compile(r"(?<=:).*", re.DOTALL)


def _check_user(name: str) -> str:
    if not name or ":" in name:
        problem = "the name holds a colon" if name else "the name is empty"
        raise fault(problem, "a user's name, and its hash behind a colon and a blank", bare=True)
    return name


def _check_hash(value: object) -> str:
    if not isinstance(value, str) or not _BCRYPT.fullmatch(value):
        expected = "$2a$, $2b$ or $2y$ (see docs/web-configuration.md)"
        raise fault("not a bcrypt hash", expected, bare=True)
    return value


def _read_header(value: object) -> str:
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise fault("is not a header's value", "one line of printable ASCII")
    return value


UserName = Annotated[str, AfterValidator(_check_user)]
PasswordHash = Annotated[SecretStr, BeforeValidator(_check_hash)]
HeaderText = Annotated[str, PlainValidator(_read_header)]


class HeadersSection(ToolkitSection):
    """The headers that the toolkit has, with their only values if it restricts them."""

    csp: HeaderText | None = Field(default=None, alias="Content-Security-Policy")
    hsts: HeaderText | None = Field(default=None, alias="Strict-Transport-Security")
    content_type: Literal["nosniff"] | None = Field(default=None, alias="X-Content-Type-Options")
    frames: Literal["deny", "sameorigin"] | None = Field(default=None, alias="X-Frame-Options")
    xss: HeaderText | None = Field(default=None, alias="X-XSS-Protection")


class HttpSection(ToolkitSection):
    """The `http_server_config` section; `http2` is accepted, and HTTP/1.1 is spoken anyway."""

    http2: Switch = True
    headers: HeadersSection = HeadersSection()


class WebFile(ToolkitSection):
    """The whole file."""

    tls_server_config: TlsSettings | None = None
    http_server_config: HttpSection = HttpSection()
    basic_auth_users: Mapping[UserName, PasswordHash] = {}


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How clients must connect and who they must be.

    Attributes:
        tls: None for plain HTTP.
        users: User name to bcrypt hash; empty for no authentication. Not in the repr.
        headers: Added to every response that has no header of the same name.
    """

    tls: TlsServer | None = None
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    headers: HeaderPairs = ()


def load_web_config(path: Path) -> WebConfig:
    """Read the file and the certificates it names, relative to its folder.

    Raises:
        ConfigError: With every fault of the file.
    """
    holds = "tls_server_config, http_server_config or basic_auth_users"
    document = read_document(path, None, holds=holds, may_be_empty=True)
    faults = FaultList(document, WebFile)
    try:
        file = WebFile.model_validate(document.data, context=path.parent)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            faults.add_refusal(detail)
    if found := faults.sorted():
        raise ConfigError([_without_secrets(each) for each in found])
    settings, users = file.tls_server_config, file.basic_auth_users.items()
    headers = file.http_server_config.headers.model_dump(by_alias=True, exclude_none=True)
    return WebConfig(
        None if settings is None else build_tls(settings),
        {name: hashed.get_secret_value().encode() for name, hashed in users},
        tuple(headers.items()),
    )


def _without_secrets(each: Fault) -> Fault:
    key = _SECRET.sub("…", _BEHIND_COLON.sub("…", each.key, count=1))
    return replace(each, key=key, found=_SECRET.sub("…", each.found))
