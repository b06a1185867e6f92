from __future__ import annotations

import ssl
from pathlib import Path

import bcrypt
import pytest
import trustme

from exporter.errors import ConfigError
from exporter.server.web_config import load_web_config

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
KEYS = "tls_server_config, http_server_config, basic_auth_users"
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


A_MAPPING = "a YAML mapping with tls_server_config, http_server_config or basic_auth_users"
CERT_ONLY = "tls_server_config:\n  cert_file: {}\n  key_file: {}\n"
A_HASH = "expected $2a$, $2b$ or $2y$ (see docs/web-configuration.md)"
A_NAME = "expected a user's name, and its hash behind a colon and a blank"

BAD = {
    "not a mapping": ("- a", [f"1: the file holds a list, expected {A_MAPPING}"]),
    "not YAML": (
        "a: [",
        [
            (
                "1: column 5: a value is missing or malformed, "
                "expected quotes around a value with special characters"
            )
        ],
    ),
    "forbidden character": (
        "a: \x01",
        ["1: column 4: a control character, expected printable text"],
    ),
    "unknown key": (
        "tls_server_confg: {}",
        [
            (
                f"1: tls_server_confg: unknown key, expected one of {KEYS}; "
                "did you mean tls_server_config?"
            )
        ],
    ),
    "unknown key, nothing near": (
        "quotas:",
        [f"1: quotas: unknown key, expected one of {KEYS}"],
    ),
    "given twice": (
        "http_server_config: {}\nhttp_server_config: {}",
        ["2: http_server_config: set twice, first on line 1, expected each key once"],
    ),
    "odd key": ("{[a]: b}", ["1: a list stands as a key, expected text"]),
    "no certificate": (
        "tls_server_config:\n  min_version: TLS12",
        [
            "1: tls_server_config.cert_file: missing, expected the path of a PEM file",
            "1: tls_server_config.key_file: missing, expected the path of a PEM file",
        ],
    ),
    "no certificate in an empty section": (
        "tls_server_config: {}",
        [
            "1: tls_server_config.cert_file: missing, expected the path of a PEM file",
            "1: tls_server_config.key_file: missing, expected the path of a PEM file",
        ],
    ),
    "several at once": (
        (
            "http_server_config:\n  http2: maybe\n  headers:\n    X-Frame-Options: allow\n"
            "    Server: x\n    x-frame-options: deny\nbasic_auth_users:\n  alice: hunter2\n"
            "  'b:hunter2': x\n  d: [hunter2]\n  e:\n  '': x\n"
            + CERT_ONLY.format("no.pem", "key.pem")
            + "  max_version: TLS14\n"
        ),
        [
            "2: http_server_config.http2: 'maybe' is not a switch, expected true or false",
            (
                "4: http_server_config.headers.X-Frame-Options: 'allow' is not known, "
                "expected deny or sameorigin"
            ),
            (
                "5: http_server_config.headers.Server: unknown key, expected one of "
                "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, "
                "X-Frame-Options, X-XSS-Protection"
            ),
            (
                "6: http_server_config.headers.x-frame-options: unknown key, expected one of "
                "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, "
                "X-Frame-Options, X-XSS-Protection; did you mean X-Frame-Options?"
            ),
            f"8: basic_auth_users.alice: not a bcrypt hash, {A_HASH}",
            f"9: basic_auth_users.b:…: the name holds a colon, {A_NAME}",
            f"10: basic_auth_users.d: not a bcrypt hash, {A_HASH}",
            f"11: basic_auth_users.e: not a bcrypt hash, {A_HASH}",
            f"12: basic_auth_users.: the name is empty, {A_NAME}",
            (
                "14: tls_server_config.cert_file: {folder}/no.pem: No such file or directory, "
                "expected a readable PEM file"
            ),
            ("16: tls_server_config.max_version: 'TLS14' is not known, expected TLS12 or TLS13"),
        ],
    ),
    "wrong forms": (
        "http_server_config:\n  http2: []\n  headers:\n    X-XSS-Protection: ''\n"
        "basic_auth_users: hunter2\n" + CERT_ONLY.format("[a]", "''") + "  cipher_suites: a",
        [
            "2: http_server_config.http2: a list is not a switch, expected true or false",
            (
                "4: http_server_config.headers.X-XSS-Protection: '' is not a header's value, "
                "expected one line of printable ASCII"
            ),
            (
                "5: basic_auth_users: the value is not a mapping, "
                "expected a mapping, one name: value per line"
            ),
            (
                "7: tls_server_config.cert_file: a list is not a path, "
                "expected the path of a PEM file"
            ),
            "8: tls_server_config.key_file: '' is empty, expected the path of a PEM file",
            (
                "9: tls_server_config.cipher_suites: 'a' is not a list, "
                "expected a list such as [one, two]"
            ),
        ],
    ),
    "sections of a wrong form": (
        "tls_server_config: []\nhttp_server_config:\n  headers: x",
        [
            (
                "1: tls_server_config: a list is not a mapping, expected a mapping with cert_file, "
                "key_file, client_auth_type, client_ca_file, client_allowed_sans, min_version, "
                "max_version, cipher_suites, prefer_server_cipher_suites, curve_preferences"
            ),
            (
                "3: http_server_config.headers: 'x' is not a mapping, expected a mapping with "
                "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, "
                "X-Frame-Options, X-XSS-Protection"
            ),
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
        TLS + "  client_auth_type: Maybe\n  client_ca_file: ca.pem",
        [
            (
                "4: tls_server_config.client_auth_type: 'Maybe' is not known, expected "
                "NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert"
            )
        ],
    ),
    "rate limit": (
        "rate_limit:\n  interval: 1s\n  burst: 20",
        [f"1: rate_limit: unknown key, expected one of {KEYS}"],
    ),
    "unverified client certificates": (
        TLS + "  client_auth_type: RequireAnyClientCert",
        [
            (
                "4: tls_server_config.client_auth_type: 'RequireAnyClientCert' is not known, "
                "expected NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert"
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
                "1: tls_server_config.client_ca_file: missing, expected a PEM file, "
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
                "expected a PEM certificate"
            )
        ],
    ),
    "old TLS": (
        TLS + "  min_version: TLS10\n  max_version: TLS11",
        [
            ("4: tls_server_config.min_version: 'TLS10' is not known, expected TLS12 or TLS13"),
            ("5: tls_server_config.max_version: 'TLS11' is not known, expected TLS12 or TLS13"),
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
        TLS + "  cipher_suites: [[a], TLS_AES_128_GCM_SHA256]",
        [
            "4: tls_server_config.cipher_suites[0]: a list is not text, expected text",
            (
                "4: tls_server_config.cipher_suites[1]: unknown suite 'TLS_AES_128_GCM_SHA256', "
                "expected a suite of TLS 1.2 such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
            ),
        ],
    ),
    "curves": (
        TLS + "  curve_preferences: [X25519, P1]",
        [
            (
                "4: tls_server_config.curve_preferences[1]: 'P1' is not known, "
                "expected CurveP256, CurveP384, CurveP521 or X25519"
            ),
        ],
    ),
    "several curves": (
        TLS + "  curve_preferences: [X25519, CurveP256]",
        [
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
    assert str(caught.value).splitlines() == expected
    assert "hunter2" not in str(caught.value)


MISPLACED = {
    "htpasswd's own file": (
        "alice:{hash}\nbob:hunter2",
        f"1: the file holds a single value, expected {A_MAPPING}",
    ),
    "hash as a key": ("{hash}: 1", f"1: …: unknown key, expected one of {KEYS}"),
    "user without a section": (
        "{{'alice:hunter2'}}",
        f"1: alice:…: unknown key, expected one of {KEYS}",
    ),
    "user without a blank": (
        "basic_auth_users:\n  'alice:{hash}':",
        f"2: basic_auth_users.alice:…: the name holds a colon, {A_NAME}",
    ),
    "user twice": (
        "basic_auth_users:\n  'a:{hash}': x\n  'a:{hash}': x",
        "3: basic_auth_users.a:…: set twice, first on line 2, expected each key once",
    ),
    "hash instead of a section": (
        "http_server_config: alice:{hash}",
        "1: http_server_config: 'alice:…' is not a mapping, expected a mapping with http2, headers",
    ),
    "hash instead of a choice": (
        "http_server_config: {{headers: {{X-Frame-Options: {hash}}}}}",
        (
            "1: http_server_config.headers.X-Frame-Options: '…' is not known, "
            "expected deny or sameorigin"
        ),
    ),
    "key instead of its path": (
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: |\n    {key}",
        "3: tls_server_config.key_file: PEM text stands here, expected the path of a PEM file",
    ),
    "key folded into one line": (
        "http_server_config:\n  http2: >\n    {key}",
        "2: http_server_config.http2: '…' is not a switch, expected true or false",
    ),
}


@pytest.mark.parametrize(("text", "message"), MISPLACED.values(), ids=MISPLACED)
def test_a_secret_in_a_wrong_place_is_not_repeated(folder, text, message):
    lines = (folder / "key.pem").read_text().splitlines()

    with pytest.raises(ConfigError) as caught:
        load(folder, text.format(hash=HASH, key="\n    ".join(lines)))

    assert f"{folder}/web.yml:{message}" in str(caught.value).splitlines()
    assert not any(secret in str(caught.value) for secret in (*lines, HASH[:20], "hunter2"))


def test_values_are_taken_as_they_are_written(folder):
    config = load(
        folder,
        "http_server_config:\n  http2: off\n  headers:\n    X-XSS-Protection: 0\n"
        "    Content-Security-Policy: ${A} $${B} ${\n    Strict-Transport-Security: 1.10\n",
    )

    assert config.headers == (
        ("Content-Security-Policy", "${A} $${B} ${"),
        ("Strict-Transport-Security", "1.10"),
        ("X-XSS-Protection", "0"),
    )


def test_a_key_without_a_value_is_as_good_as_absent(folder):
    config = load(
        folder,
        TLS + "  client_auth_type:\n  client_ca_file:\n  min_version: ~\n  cipher_suites:\n"
        "  prefer_server_cipher_suites:\nhttp_server_config:\n  http2:\n  headers:\n"
        "    X-Frame-Options:\n",
    )

    assert config.tls.context.verify_mode is ssl.CERT_NONE
    assert config.tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert config.tls.context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert config.headers == ()


def test_unknown_cipher_suite_is_named(folder):
    with pytest.raises(
        ConfigError, match=r"cipher_suites\[0\]: unknown suite 'ROT13', expected a suite"
    ):
        load(folder, TLS + "  cipher_suites: [ROT13]")


def test_unreadable_file_is_a_fault(tmp_path):
    with pytest.raises(ConfigError) as missing:
        load_web_config(tmp_path / "web.yml")
    (tmp_path / "web.yml").write_bytes(b"\xff")
    with pytest.raises(ConfigError) as binary:
        load_web_config(tmp_path / "web.yml")

    name = tmp_path / "web.yml"
    expected = "expected a readable YAML file in UTF-8 of at most 1 MiB"
    assert str(missing.value) == f"{name}: no such file, {expected}"
    assert str(binary.value) == f"{name}: line 1 is not UTF-8, {expected}"
