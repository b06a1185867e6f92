"""The web configuration file: TLS, users and headers, in the Prometheus exporter-toolkit's format.

Every fault is reported at once. Password hashes never enter a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import yaml

from exporter.errors import ConfigError
from exporter.server.message import HeaderPairs
from exporter.server.tls import TlsServer, TlsSettings, build_tls
from exporter.server.yaml_reader import Section, YamlReader

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
# The toolkit's list, and the only values it takes where it names any.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
_CLIENT_AUTH = (
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)
_VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")


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
    reader = YamlReader(str(path))
    config = WebConfig()
    root = reader.load(path)
    if root is not None:
        top = reader.section(root, "")
        if top is not None:
            config = _read_config(reader, top, path.parent)
    if reader.faults:
        raise ConfigError(reader.faults)
    return config


def _read_config(reader: YamlReader, top: Section, folder: Path) -> WebConfig:
    tls_section = top.section("tls_server_config")
    settings = _read_tls(tls_section, folder) if tls_section is not None else None
    headers = _read_http(top.section("http_server_config"))
    users = _read_users(top.section("basic_auth_users"))
    top.finish()
    tls = build_tls(settings, reader.faults) if settings is not None else None
    return WebConfig(tls, MappingProxyType(users), headers)


def _read_tls(section: Section, folder: Path) -> TlsSettings:
    """Read the section; what is missing or ill-formed is a fault and stays at its default."""
    settings = TlsSettings(
        cert_file=section.path("cert_file", folder, required=True),
        key_file=section.path("key_file", folder, required=True),
        client_auth_type=section.choice("client_auth_type", _CLIENT_AUTH) or "NoClientCert",
        client_ca_file=section.path("client_ca_file", folder),
        client_allowed_sans=section.texts("client_allowed_sans"),
        min_version=section.choice("min_version", _VERSIONS) or "TLS12",
        max_version=section.choice("max_version", _VERSIONS) or "TLS13",
        cipher_suites=section.texts("cipher_suites"),
        prefer_server_cipher_suites=section.flag("prefer_server_cipher_suites", default=True),
        curve_preferences=section.texts("curve_preferences"),
        where=section.where,
    )
    section.finish()
    return settings


def _read_http(section: Section | None) -> HeaderPairs:
    if section is None:
        return ()
    # Read for its form alone: HTTP/1.1 is what is spoken, whether HTTP/2 is allowed or not.
    section.flag("http2", default=True)
    pairs: list[tuple[str, str]] = []
    headers = section.section("headers")
    if headers is not None:
        for name, allowed in _HEADERS.items():
            value = headers.choice(name, allowed) if allowed else headers.text(name)
            if value is not None and not _HEADER_VALUE.fullmatch(value):
                headers.fault(name, "an empty or multi-line value", "one line of printable ASCII")
            elif value is not None:
                pairs.append((name, value))
        headers.finish()
    section.finish()
    return tuple(pairs)


def _read_users(section: Section | None) -> dict[str, bytes]:
    users: dict[str, bytes] = {}
    if section is None:
        return users
    for name in section.names:
        node = section.take(name)
        value = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not name or ":" in name:
            section.fault(name, f"user name {name!r}", "a name without a colon")
        elif not _BCRYPT.fullmatch(value):
            section.fault(name, "not a bcrypt hash", "$2a$, $2b$ or $2y$ (see htpasswd -nB)")
        else:
            users[name] = value.encode()
    return users
