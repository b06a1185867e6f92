"""The web configuration file: TLS, users and headers, in the Prometheus exporter-toolkit's format.

Every fault is reported at once. Passwords, their hashes and keys never enter a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
)

from exporter.config.document import KeyPath, read_document
from exporter.config.faults import FaultList
from exporter.config.values import Switch, fault
from exporter.errors import ConfigError, Fault
from exporter.server.message import HeaderPairs
from exporter.server.tls import TlsServer, TlsSettings, ToolkitSection, build_tls

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
# What could stand in a wrong place: a hash or a private key; in a key, what follows `user:` where
# the blank was forgotten.
_SECRET = re.compile(r"\$2[a-z]?\$[0-9]*\$[./A-Za-z0-9]*…?|-----BEGIN[^']*")
_BEHIND_COLON = re.compile(r"(?<=:).*", re.DOTALL)


def _check_user(name: str) -> str:
    if not name or ":" in name:
        problem = "the name holds a colon" if name else "the name is empty"
        raise fault(problem, "a user's name, and its hash behind a colon and a blank", bare=True)
    return name


def _check_hash(value: object) -> str:
    if not isinstance(value, str) or not _BCRYPT.fullmatch(value):
        raise fault(
            "not a bcrypt hash", "$2a$, $2b$ or $2y$ (see docs/web-configuration.md)", bare=True
        )
    return value


def _read_header(value: object) -> str:
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise fault("is not a header's value", "one line of printable ASCII")
    return value


def _refuse_rate_limit(value: object) -> None:
    if value is not None:
        expected = "no such key, or a proxy in front that limits"
        raise fault("is not supported", expected, bare=True)


UserName = Annotated[str, AfterValidator(_check_user)]
PasswordHash = Annotated[SecretStr, BeforeValidator(_check_hash)]
HeaderText = Annotated[str, PlainValidator(_read_header)]


class HeadersSection(ToolkitSection):
    """The headers which the toolkit knows, and the only values it takes where it names any."""

    csp: HeaderText | None = Field(default=None, alias="Content-Security-Policy")
    hsts: HeaderText | None = Field(default=None, alias="Strict-Transport-Security")
    content_type: Literal["nosniff"] | None = Field(default=None, alias="X-Content-Type-Options")
    frames: Literal["deny", "sameorigin"] | None = Field(default=None, alias="X-Frame-Options")
    xss: HeaderText | None = Field(default=None, alias="X-XSS-Protection")


class HttpSection(ToolkitSection):
    """How HTTP is spoken."""

    # Read for its form alone: HTTP/1.1 is what is spoken, whether HTTP/2 is allowed or not.
    http2: Switch = True
    headers: HeadersSection = HeadersSection()


class WebFile(ToolkitSection):
    """The whole file."""

    tls_server_config: TlsSettings | None = None
    http_server_config: HttpSection = HttpSection()
    basic_auth_users: Mapping[UserName, PasswordHash] = {}
    # Known, so that its fault says more than that it is unknown.
    rate_limit: Annotated[None, PlainValidator(_refuse_rate_limit)] = None


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How clients must connect and who they must be.

    Attributes:
        tls: None for plain HTTP.
        users: User name to bcrypt hash; empty for no authentication. Not in the repr.
        headers: Added to every response.
    """

    tls: TlsServer | None = None
    users: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    headers: HeaderPairs = ()


def load_web_config(path: Path) -> WebConfig:
    """Read the file and the certificates it names; an empty file asks for nothing.

    Args:
        path: Paths in the file are relative to its folder.

    Raises:
        ConfigError: With every fault of the file.
    """
    # The toolkit knows no ${NAME}, and takes a header's `0` for text.
    holds = "tls_server_config, http_server_config or basic_auth_users"
    document = read_document(path, None, holds=holds, may_be_empty=True)
    faults = FaultList(document)
    file = _validate(document.data, faults)
    settings = file.tls_server_config
    tls = None if settings is None else build_tls(settings, path.parent, faults)
    found = faults.sorted()
    if found:
        raise ConfigError([_without_secrets(fault) for fault in found])
    headers = file.http_server_config.headers.model_dump(by_alias=True, exclude_none=True)
    users = {name: hashed.get_secret_value() for name, hashed in file.basic_auth_users.items()}
    return WebConfig(
        tls,
        MappingProxyType({name: hashed.encode() for name, hashed in users.items()}),
        tuple(headers.items()),
    )


def _validate(data: dict[str, object], faults: FaultList) -> WebFile:
    """Read what can be read, so that certificates are checked whatever else is wrong."""
    try:
        return WebFile.model_validate(data)
    except ValidationError as error:
        refusals = error.errors(include_url=False)
    for detail in refusals:
        faults.add_refusal(detail, WebFile)
        _take_out(data, detail["loc"])
    return WebFile.model_validate(data)


def _take_out(data: Any, path: KeyPath) -> None:
    """Remove what was refused; in a list a dash takes its place, so that the others keep theirs."""
    if path[-1] == "[key]":
        path = path[:-1]
    for part in path[:-1]:
        data = data.get(part, {}) if isinstance(data, dict) else data[part]
    if isinstance(data, list):
        data[int(path[-1])] = "-"
    else:
        data.pop(path[-1], None)


def _without_secrets(found: Fault) -> Fault:
    key = _SECRET.sub("…", _BEHIND_COLON.sub("…", found.key, count=1))
    return replace(found, key=key, found=_SECRET.sub("…", found.found))
