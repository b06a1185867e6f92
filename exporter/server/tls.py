"""TLS settings as OpenSSL can honour them; what it cannot is a fault, never silently left out."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainValidator, ValidationInfo, field_validator

from exporter.config.faults import FaultList
from exporter.config.section import Section
from exporter.config.values import Switch, Text, fault

_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
# IANA's names, which Go uses, to OpenSSL's. TLS 1.2 only: Python cannot choose among TLS 1.3's.
_CIPHERS = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
_TLS13_CIPHERS = frozenset(
    {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
)
_CURVES = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}


_SECTION = "tls_server_config"
_A_FILE = "the path of a PEM file"


def _read_file(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise fault("is not a path" if value else "is empty", _A_FILE)
    if "\n" in value or "-----BEGIN" in value:
        raise fault("PEM text stands here", _A_FILE, bare=True)
    return Path(value)


PemFile = Annotated[Path, PlainValidator(_read_file)]
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]


class ToolkitSection(Section):
    """A mapping in the toolkit's format, where a key without a value is as good as absent."""

    @field_validator("*", mode="before")
    @classmethod
    def _default_if_empty(cls, value: object, info: ValidationInfo) -> object:
        return cls.model_fields[str(info.field_name)].default if value is None else value


class TlsSettings(ToolkitSection):
    """The `tls_server_config` section, each key as it is written.

    Every key has a default, so that a faulty one keeps none of the others from being checked.
    """

    cert_file: PemFile | None = None
    key_file: PemFile | None = None
    client_auth_type: Literal[
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = "NoClientCert"
    client_ca_file: PemFile | None = None
    client_allowed_sans: tuple[Text, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Text, ...] = ()
    prefer_server_cipher_suites: Switch = True
    curve_preferences: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsServer:
    """What a new connection is opened with.

    Attributes:
        context: Certificates loaded, versions and ciphers set.
        allowed_sans: If any, a client's certificate must carry one of these names.
    """

    context: ssl.SSLContext
    allowed_sans: frozenset[str] = frozenset()

    def admits(self, peer_certificate: Mapping[str, Any] | None) -> bool:
        """Say whether the names of a verified client certificate are allowed.

        A client without a certificate has passed the handshake, so its absence is allowed.
        """
        if not self.allowed_sans or not peer_certificate:
            return True
        names = peer_certificate.get("subjectAltName", ())
        return any(name in self.allowed_sans for _, name in names)


def build_tls(settings: TlsSettings, folder: Path, faults: FaultList) -> TlsServer:
    """Build the context from the settings; what cannot be honoured is added to the faults.

    Args:
        settings: The section's keys.
        folder: Where relative paths start.
        faults: Of the file which the section stands in.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The toolkit's clients ask for h2 first; HTTP/1.1 is what they get.
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    builder = _Builder(settings, folder, context, faults)
    builder.load_certificate()
    builder.set_client_verification()
    builder.set_versions()
    builder.set_ciphers()
    builder.set_curve()
    return TlsServer(context, frozenset(settings.client_allowed_sans))


class _Builder:
    """Applies one setting after the other, so that every fault is found."""

    def __init__(
        self, settings: TlsSettings, folder: Path, context: ssl.SSLContext, faults: FaultList
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._context = context
        self._faults = faults

    def load_certificate(self) -> None:
        cert = self._readable("cert_file", self._settings.cert_file, _A_FILE)
        key = self._readable("key_file", self._settings.key_file, _A_FILE)
        if cert is None or key is None:
            return
        try:
            # Without a password function OpenSSL would ask on the terminal.
            self._context.load_cert_chain(cert, key, password=lambda: b"")
        except (ssl.SSLError, OSError, ValueError) as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                self._fault("key_file", f"{key} does not belong to {cert}", "its private key")
            elif self._is_certificate(cert):
                self._fault("key_file", f"{key} holds no usable key", "an unencrypted PEM key")
            else:
                self._fault("cert_file", f"{cert} holds no certificate", "a PEM certificate")

    def set_client_verification(self) -> None:
        settings, kind = self._settings, self._settings.client_auth_type
        if self._faults.has((_SECTION, "client_auth_type")):
            return  # nobody knows which of the other keys it would have asked for
        if kind not in _VERIFY:
            self._fault(
                "client_auth_type",
                f"{kind} takes certificates without verifying them, which is not supported",
                "VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            )
            return
        if kind == "NoClientCert":
            for name, value in (
                ("client_ca_file", settings.client_ca_file),
                ("client_allowed_sans", settings.client_allowed_sans),
            ):
                if value:
                    self._fault(name, "without effect", "a client_auth_type that verifies")
            return
        expected = f"a PEM file, as {kind} verifies"
        authority = self._readable("client_ca_file", settings.client_ca_file, expected)
        if authority is None:
            return
        try:
            self._context.load_verify_locations(authority)
        except ssl.SSLError:
            self._fault("client_ca_file", f"{authority} holds no certificate", "PEM certificates")
        self._context.verify_mode = _VERIFY[kind]

    def set_versions(self) -> None:
        low, high = self._settings.min_version, self._settings.max_version
        refused = {n: v for n, v in (("min_version", low), ("max_version", high)) if v < "TLS12"}
        for name, version in refused.items():
            self._fault(name, f"{version} is refused by OpenSSL's defaults", "TLS12 or TLS13")
        if refused:
            return
        if low > high:
            self._fault("max_version", f"{high} is below min_version {low}", "at least that")
            return
        self._context.minimum_version = _VERSIONS[low]
        self._context.maximum_version = _VERSIONS[high]

    def set_ciphers(self) -> None:
        names = self._settings.cipher_suites
        for index, name in enumerate(names):
            if name in _TLS13_CIPHERS:
                found = f"{name} is TLS 1.3, where Python cannot choose"
                self._fault("cipher_suites", found, "suites of TLS 1.2", index)
            elif name not in _CIPHERS:
                found = f"unknown suite {name!r}"
                self._fault("cipher_suites", found, f"any of {_list(tuple(_CIPHERS))}", index)
        known = [_CIPHERS[name] for name in names if name in _CIPHERS]
        if known:
            try:
                self._context.set_ciphers(":".join(known))
            except ssl.SSLError:
                found = "no suite this OpenSSL offers"
                self._fault("cipher_suites", found, "at least one")

    def set_curve(self) -> None:
        names = self._settings.curve_preferences
        unknown = {index: name for index, name in enumerate(names) if name not in _CURVES}
        for index, name in unknown.items():
            found = f"unknown curve {name!r}"
            self._fault("curve_preferences", found, _list(tuple(_CURVES)), index)
        if len(names) > 1:
            found = f"{len(names)} curves, of which Python can offer one"
            self._fault("curve_preferences", found, "a single curve, or none for all")
        elif names and not unknown:
            self._context.set_ecdh_curve(_CURVES[names[0]])

    def _readable(self, name: str, path: Path | None, needed: str) -> Path | None:
        """Give the path of a file that can be opened; None and a fault if there is none."""
        if path is None:
            self._fault(name, "missing", needed)
            return None
        path = self._folder / path
        try:
            with path.open("rb"):
                return path
        except OSError as error:
            self._fault(name, f"{path}: {error.strerror}", "a readable PEM file")
            return None

    @staticmethod
    def _is_certificate(path: Path) -> bool:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
        except ssl.SSLError:
            return False
        return True

    def _fault(self, name: str, found: str, expected: str, *entry: int) -> None:
        self._faults.add((_SECTION, name, *entry), found, expected)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
