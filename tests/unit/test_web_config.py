from __future__ import annotations

import ssl
from pathlib import Path

import bcrypt
import pytest
import trustme

from exporter.errors import ConfigError
from exporter.server import load_web_config

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate, other = authority.issue_cert("localhost"), authority.issue_cert("other")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    (folder / "junk.pem").write_text("junk")
    return folder


def load(folder: Path, text: str):
    path = folder / "web.yml"
    path.write_text(text)
    return load_web_config(path)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n"]
)
def test_empty_file_asks_for_nothing(folder, text):
    config = load(folder, text)

    assert (config.tls, dict(config.users), config.headers) == (None, {}, ())


def test_every_setting_is_applied(folder):
    config = load(
        folder,
        TLS
        + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.pem\n"
        + "  client_allowed_sans: [prometheus.example]\n"
        + "  min_version: TLS12\n  max_version: TLS12\n"
        + "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n"
        + "  prefer_server_cipher_suites: false\n  curve_preferences: [CurveP256]\n"
        + "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n"
        + "    Content-Security-Policy: default-src 'self'\n"
        + f"basic_auth_users:\n  alice: {HASH}\n",
    )

    context = config.tls.context
    assert context.verify_mode is ssl.CERT_OPTIONAL
    assert context.minimum_version is context.maximum_version is ssl.TLSVersion.TLSv1_2
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in {cipher["name"] for cipher in context.get_ciphers()}
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in {c["name"] for c in context.get_ciphers()}
    assert config.tls.allowed_sans == {"prometheus.example"}
    assert config.headers == (
        ("Content-Security-Policy", "default-src 'self'"),
        ("X-Frame-Options", "deny"),
    )
    assert config.users == {"alice": HASH.encode()}
    assert HASH not in repr(config)


CERT_ONLY = "tls_server_config:\n  cert_file: {}\n  key_file: {}\n"

BAD = {
    "not a mapping": ("- a", ["1: a list, expected a mapping"]),
    "not YAML": ("a: [", ["1: expected the node content, but found '<stream end>', expected YAML"]),
    "forbidden character": ("a: \x01", [": a character YAML forbids, expected YAML"]),
    "unknown key": (
        "tls_server_confg: {}",
        ["1: tls_server_confg: unknown key, expected tls_server_config?"],
    ),
    "unknown key, nothing near": (
        "rate_limit: {}",
        [
            (
                "1: rate_limit: unknown key, expected one of tls_server_config, "
                "http_server_config, basic_auth_users"
            )
        ],
    ),
    "given twice": (
        "http_server_config: {}\nhttp_server_config: {}",
        ["2: http_server_config: given twice, expected one value a key"],
    ),
    "odd key": (
        "{[a]: b}",
        [
            (
                "1: a list: unknown key, expected one of tls_server_config, "
                "http_server_config, basic_auth_users"
            )
        ],
    ),
    "no certificate": (
        "tls_server_config:\n  min_version: TLS12",
        [
            "2: tls_server_config.cert_file: missing, expected the path of a PEM file",
            "2: tls_server_config.key_file: missing, expected the path of a PEM file",
        ],
    ),
    "several at once": (
        (
            "http_server_config:\n  http2: maybe\n  headers:\n    X-Frame-Options: allow\n"
            "    Server: x\nbasic_auth_users:\n  alice: hunter2\n  'b:c': x\n  d: [hunter2]"
        ),
        [
            "2: http_server_config.http2: 'maybe', expected true or false",
            (
                "4: http_server_config.headers.X-Frame-Options: 'allow', "
                "expected one of deny, sameorigin"
            ),
            (
                "5: http_server_config.headers.Server: unknown key, expected one of "
                "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, "
                "X-Frame-Options, X-XSS-Protection"
            ),
            (
                "7: basic_auth_users.alice: not a bcrypt hash, "
                "expected $2a$, $2b$ or $2y$ (see htpasswd -nB)"
            ),
            "8: basic_auth_users.b:c: user name 'b:c', expected a name without a colon",
            (
                "9: basic_auth_users.d: not a bcrypt hash, "
                "expected $2a$, $2b$ or $2y$ (see htpasswd -nB)"
            ),
        ],
    ),
    "wrong forms": (
        "http_server_config:\n  http2: []\n  headers:\n    X-XSS-Protection: ''\n"
        "basic_auth_users: x\n" + CERT_ONLY.format("[a]", "''") + "  cipher_suites: a",
        [
            "7: tls_server_config.cert_file: a list, expected a text",
            "7: tls_server_config.cert_file: missing, expected the path of a PEM file",
            "8: tls_server_config.key_file: missing, expected the path of a PEM file",
            "9: tls_server_config.cipher_suites: a single value, expected a list of texts",
            "2: http_server_config.http2: a list, expected true or false",
            (
                "4: http_server_config.headers.X-XSS-Protection: an empty or multi-line value, "
                "expected one line of printable ASCII"
            ),
            "5: basic_auth_users: a single value, expected a mapping",
        ],
    ),
    "missing files": (
        CERT_ONLY.format("no.pem", "nope.pem"),
        [
            (
                "2: tls_server_config.cert_file: {folder}/no.pem: No such file or directory, "
                "expected a readable PEM file"
            ),
            (
                "3: tls_server_config.key_file: {folder}/nope.pem: No such file or directory, "
                "expected a readable PEM file"
            ),
        ],
    ),
    "mismatched key": (
        CERT_ONLY.format("cert.pem", "other.pem"),
        [
            (
                "3: tls_server_config.key_file: {folder}/other.pem does not belong to "
                "{folder}/cert.pem, expected its private key"
            )
        ],
    ),
    "no key in the file": (
        CERT_ONLY.format("cert.pem", "junk.pem"),
        [
            (
                "3: tls_server_config.key_file: {folder}/junk.pem holds no usable key, "
                "expected an unencrypted PEM key"
            )
        ],
    ),
    "no certificate in the file": (
        CERT_ONLY.format("junk.pem", "key.pem"),
        [
            (
                "2: tls_server_config.cert_file: {folder}/junk.pem holds no certificate, "
                "expected a PEM certificate"
            )
        ],
    ),
    "unknown client_auth_type": (
        TLS + "  client_auth_type: Maybe",
        [
            (
                "4: tls_server_config.client_auth_type: 'Maybe', expected one of NoClientCert, "
                "RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, "
                "RequireAndVerifyClientCert"
            )
        ],
    ),
    "unverified client certificates": (
        TLS + "  client_auth_type: RequireAnyClientCert",
        [
            (
                "4: tls_server_config.client_auth_type: RequireAnyClientCert takes certificates "
                "without verifying them, which is not supported, expected VerifyClientCertIfGiven "
                "or RequireAndVerifyClientCert"
            )
        ],
    ),
    "verification settings without verification": (
        TLS + "  client_ca_file: ca.pem\n  client_allowed_sans: [a]",
        [
            (
                "4: tls_server_config.client_ca_file: without effect, "
                "expected a client_auth_type that verifies"
            ),
            (
                "5: tls_server_config.client_allowed_sans: without effect, "
                "expected a client_auth_type that verifies"
            ),
        ],
    ),
    "no client CA": (
        TLS + "  client_auth_type: RequireAndVerifyClientCert",
        [
            (
                "2: tls_server_config.client_ca_file: missing, expected a PEM file, "
                "as RequireAndVerifyClientCert verifies"
            )
        ],
    ),
    "unreadable client CA": (
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: no.pem",
        [
            (
                "5: tls_server_config.client_ca_file: {folder}/no.pem: No such file or directory, "
                "expected a readable PEM file"
            )
        ],
    ),
    "junk client CA": (
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: junk.pem",
        [
            (
                "5: tls_server_config.client_ca_file: {folder}/junk.pem holds no certificate, "
                "expected PEM certificates"
            )
        ],
    ),
    "old TLS": (
        TLS + "  min_version: TLS10",
        [
            (
                "4: tls_server_config.min_version: TLS10 is refused by OpenSSL's defaults, "
                "expected TLS12 or TLS13"
            )
        ],
    ),
    "versions crossed": (
        TLS + "  min_version: TLS13\n  max_version: TLS12",
        [
            (
                "5: tls_server_config.max_version: TLS12 is below min_version TLS13, "
                "expected at least that"
            )
        ],
    ),
    "TLS 1.3 suite": (
        TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]",
        [
            (
                "4: tls_server_config.cipher_suites: TLS_AES_128_GCM_SHA256 is TLS 1.3, "
                "where Python cannot choose, expected suites of TLS 1.2"
            )
        ],
    ),
    "curves": (
        TLS + "  curve_preferences: [X25519, P1]",
        [
            (
                "4: tls_server_config.curve_preferences: unknown curve 'P1', "
                "expected CurveP256, CurveP384, CurveP521, X25519"
            ),
            (
                "4: tls_server_config.curve_preferences: 2 curves, of which Python can offer one, "
                "expected a single curve, or none for all"
            ),
        ],
    ),
}


@pytest.mark.parametrize(("text", "messages"), BAD.values(), ids=BAD)
def test_every_fault_is_reported_with_its_line(folder, text, messages):
    with pytest.raises(ConfigError) as caught:
        load(folder, text)

    expected = [f"{folder}/web.yml:" + m.replace("{folder}", str(folder)) for m in messages]
    assert str(caught.value).replace("web.yml: a char", "web.yml:: a char").splitlines() == expected
    assert "hunter2" not in str(caught.value)


def test_unknown_cipher_suite_is_named(folder):
    with pytest.raises(ConfigError, match="cipher_suites: unknown suite 'ROT13', expected any of"):
        load(folder, TLS + "  cipher_suites: [ROT13]")


def test_unreadable_file_is_a_fault(tmp_path):
    with pytest.raises(ConfigError) as missing:
        load_web_config(tmp_path / "web.yml")
    (tmp_path / "web.yml").write_bytes(b"\xff")
    with pytest.raises(ConfigError) as binary:
        load_web_config(tmp_path / "web.yml")

    name = tmp_path / "web.yml"
    assert str(missing.value) == f"{name}: No such file or directory, expected a readable file"
    assert str(binary.value) == f"{name}: not UTF-8, expected YAML in UTF-8"
