"""TLS settings of the web configuration; what OpenSSL or Python cannot apply is refused."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator

from exporter.config.section import Section
from exporter.config.values import Switch, Text, fault

_VERIFY = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
# What IANA's name of a suite has and OpenSSL's has not: TLS_RSA_WITH_AES_128_CBC_SHA, AES128-SHA.
_IANA_ONLY = re.compile(r"^TLS_(RSA_(?=WITH))?|WITH_|CBC_|(?<=AES)_|(?<=POLY1305)_SHA256")


def _read_pem(value: object, info: ValidationInfo) -> Path:
    """Read the path of a PEM file, relative to the folder that is the context."""
    expected = "the path of a PEM file"
    if value is None:
        raise fault("missing", expected, bare=True)
    if not isinstance(value, str) or not value:
        raise fault("is not a path" if value else "is empty", expected)
    if "\n" in value or "-----BEGIN" in value:
        raise fault("PEM text stands here", expected, bare=True)
    path = Path(info.context or "", value)
    try:
        path.open("rb").close()
    except OSError as error:
        raise fault(f"{path}: {error.strerror}", "a readable PEM file", bare=True) from None
    return path


def _check_certificates(path: Path) -> Path:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        raise fault(f"{path} holds no certificate", "a PEM certificate", bare=True) from None
    return path


def _read_suite(name: str) -> str:
    """Return OpenSSL's name of a cipher suite of TLS 1.2; Python cannot choose among TLS 1.3's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    suite = _IANA_ONLY.sub("", name).replace("_", "-")
    if "_WITH_" not in name or suite not in {each["name"] for each in context.get_ciphers()}:
        expected = "a suite of TLS 1.2 such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        raise fault(f"unknown suite {name!r}", expected, bare=True)
    return suite


PemFile = Annotated[Path, PlainValidator(_read_pem)]
Certificates = Annotated[PemFile, AfterValidator(_check_certificates)]
ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Version = Literal["TLS12", "TLS13"]
Suite = Annotated[Text, AfterValidator(_read_suite)]
Curve = Literal["CurveP256", "CurveP384", "CurveP521", "X25519"]


class ToolkitSection(Section):
    """A mapping in the toolkit's format, in which a key without a value counts as absent."""

    @field_validator("*", mode="before")
    @classmethod
    def _default_if_empty(cls, value: object, info: ValidationInfo) -> object:
        return cls.model_fields[str(info.field_name)].default if value is None else value


class TlsSettings(ToolkitSection):
    """The `tls_server_config` section; its files are read, and must fit together."""

    cert_file: Certificates = Field(default=None, validate_default=True)
    key_file: PemFile = Field(default=None, validate_default=True)
    client_auth_type: ClientAuth = "NoClientCert"
    client_ca_file: Certificates | None = None
    client_allowed_sans: tuple[Text, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Suite, ...] = ()
    prefer_server_cipher_suites: Switch = True
    curve_preferences: tuple[Curve, ...] = ()

    @field_validator("key_file")
    @classmethod
    def _check_key(cls, key: Path, info: ValidationInfo) -> Path:
        certificate = info.data.get("cert_file")
        try:
            if certificate is not None:
                _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        except (ssl.SSLError, OSError, ValueError) as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                problem = f"{key} does not belong to {certificate}"
                raise fault(problem, "its private key", bare=True) from None
            expected = "an unencrypted PEM key"
            raise fault(f"{key} holds no usable key", expected, bare=True) from None
        return key

    @field_validator("client_ca_file", "client_allowed_sans")
    @classmethod
    def _check_client_verification(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("client_auth_type")
        if kind == "NoClientCert" and value:
            raise fault("without effect", "a client_auth_type that verifies", bare=True)
        if value is None and kind not in (None, "NoClientCert"):
            raise fault("missing", f"a PEM file, as {kind} verifies", bare=True)
        return value

    @field_validator("max_version")
    @classmethod
    def _check_order(cls, version: str, info: ValidationInfo) -> str:
        low = info.data.get("min_version", version)
        if version < low:
            raise fault(f"{version} is below min_version {low}", "at least that", bare=True)
        return version

    @field_validator("curve_preferences")
    @classmethod
    def _check_curves(cls, curves: tuple[str, ...]) -> tuple[str, ...]:
        if len(curves) > 1:
            problem = f"{len(curves)} curves, of which Python can offer one"
            raise fault(problem, "a single curve, or none for all", bare=True)
        return curves


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
        """Return whether the names of a client's verified certificate, if any, are allowed."""
        if not self.allowed_sans or not peer_certificate:
            return True
        names = peer_certificate.get("subjectAltName", ())
        return any(name in self.allowed_sans for _, name in names)


def build_tls(settings: TlsSettings) -> TlsServer:
    """Build the context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The toolkit's clients ask for h2 first; HTTP/1.1 is what they get.
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_pair(context, settings.cert_file, settings.key_file)
    if settings.client_ca_file is not None:
        context.load_verify_locations(settings.client_ca_file)
    context.verify_mode = _VERIFY[settings.client_auth_type]
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    if settings.cipher_suites:
        context.set_ciphers(":".join(settings.cipher_suites))
    for curve in settings.curve_preferences:
        context.set_ecdh_curve(_CURVES.get(curve, curve))
    return TlsServer(context, frozenset(settings.client_allowed_sans))


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    # Without a password function OpenSSL would ask on the terminal.
    context.load_cert_chain(certificate, key, password=lambda: b"")
