"""Connection strings that libpq would refuse or misread: which part is wrong, and what to write.

No message shows any of the string but names that stand in a table here: a torn password can end up
in every part of it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import psycopg
from psycopg import conninfo, pq

DSN_FORM = "a postgresql:// URI, its password percent-encoded, or key=value pairs"
_URI = "postgresql://user:password@host:5432/database"

_SCHEME = re.compile(r"((?:jdbc:|r2dbc:)?[a-z][a-z0-9]*(?:\+[a-z0-9_]+)?):(?://|$)", re.IGNORECASE)
_OURS = re.compile(r"(?:jdbc:|r2dbc:)?(?:postgres|postgresql)(?:\+[a-z0-9_]+)?", re.IGNORECASE)
_OTHER_SCHEMES = frozenset((
    "postgis", "pgsql", "psql", "pg", "cockroachdb", "cockroach", "redshift", "timescaledb",
    "timescale", "prisma", "prisma+postgres", "mysql", "mariadb", "mysql2", "sqlite", "sqlserver",
    "mssql", "mongodb", "redis", "http", "https", "file", "tcp", "unix",
))  # fmt: skip

_LEAVE_OUT = "that it is left out"
_POOL = "that it is left out: a pooler is noticed by itself, one connection is used"
_SCHEMA = "that it is left out: the platform's tables are read in the schema public"
_TLS = "sslmode=require or sslmode=verify-full in its place"
# What other drivers know, in small letters without _ and -, and what to write for it.
_FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(("schema", "currentschema", "searchpath"), _SCHEMA),
    **dict.fromkeys(
        (
            "pgbouncer", "connectionlimit", "pooltimeout", "poolsize", "maxpoolsize",
            "minpoolsize", "maximumpoolsize", "minimumpoolsize", "pooling", "maxoverflow",
            "poolmaxconns", "poolminconns", "poolrecycle", "poolpreping", "pool", "poolmode",
            "preparethreshold", "statementcachesize", "preparedstatementcachesize",
            "preparedstatements", "defaultqueryexecmode", "connectionlifetime", "maxidletime",
        ),
        _POOL,
    ),
    **dict.fromkeys(
        ("ssl", "usessl", "sslaccept", "tls", "encrypt", "sslidentity", "sslfactory",
         "trustservercertificate", "usetls"),
        _TLS,
    ),
    **dict.fromkeys(("username", "uid", "userid", "usr"), "user in its place"),
    **dict.fromkeys(("pass", "pwd", "passwd"), "password in its place"),
    **dict.fromkeys(("server", "hostname", "datasource", "address"), "host in its place"),
    **dict.fromkeys(("database", "db", "initialcatalog", "databasename"), "dbname in its place"),
    **dict.fromkeys(
        ("timeout", "logintimeout", "connecttimeout"), "connect_timeout=5 (seconds) in its place"
    ),
    **dict.fromkeys(("encoding", "charset", "characterencoding"), "client_encoding in its place"),
    **dict.fromkeys(("applicationname", "appname"), "application_name in its place"),
    **dict.fromkeys(
        ("statementtimeout", "querytimeout", "commandtimeout", "locktimeout", "sockettimeout",
         "idleintransactionsessiontimeout"),
        "that it is left out: poll.timeout says how long a query may take",
    ),
    **dict.fromkeys(
        ("timezone", "stringtype", "reconnect", "autocommit", "serverversion", "asyncfallback",
         "targetservertype", "loglevel", "engine", "driver", "dialect", "workaround", "channel"),
        _LEAVE_OUT,
    ),
}  # fmt: skip
_WORDS: Mapping[str, tuple[str, ...]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": (
        "any", "read-write", "read-only", "primary", "standby", "prefer-standby"
    ),
    "load_balance_hosts": ("disable", "random"),
    "replication": ("false", "off", "no", "0"),
}  # fmt: skip
_NUMBERS = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval")


def check_dsn(dsn: str) -> tuple[str, str] | None:
    """Return what is wrong with a connection string and what was expected, or None.

    A password with a raw @ or / in a URI tears it apart: its rest becomes a host, a port or a
    database, which every later message would quote.
    """
    dsn = dsn.strip()
    problem = _check_beginning(dsn)
    if problem is not None:
        return problem
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq's own message may quote a part of the password.
        return _check_keys(dsn) or ("not a connection string libpq can read", DSN_FORM)
    if _is_torn(dsn, parts):
        return "a host, port or database that cannot be one", DSN_FORM
    return _check_values(parts)


# What is pasted around or into a string, what that is called, and what to write.
_PASTED = (
    (r"(?s)(['\"`]).*\1", "quotes around the connection string", "it without them"),
    (
        r"(?s)(?:export\s+)?[A-Z][A-Z0-9_]*\s*=\s*['\"]?(?:jdbc:)?postgres\w*[:+].*",
        "the name of a variable before the connection string",
        "what follows its =",
    ),
    (
        r"(?is)psql\s.*",
        "the command psql before the connection string",
        "what follows it, without quotes",
    ),
    (r"(?is)postgres(?:ql)?:(?!//).*", "no // behind postgresql:", _URI),
    (r"(?s)[^=]*://.*[\r\n].*", "a line break within the connection string", "it in one line"),
)


def _check_beginning(dsn: str) -> tuple[str, str] | None:
    """What stands before the string itself, and schemes of other drivers."""
    for pattern, found, expected in _PASTED:
        if re.fullmatch(pattern, dsn):
            return found, expected
    scheme = _SCHEME.match(dsn)
    if scheme is None or re.fullmatch(r"postgres(?:ql)?", scheme[1]):
        return None
    # libpq knows its own scheme in small letters only.
    if _OURS.fullmatch(scheme[1]):
        rest = ", and user:password before an @" if "jdbc" in scheme[1].lower() else ""
        return f"the driver's scheme {scheme[1]}://", f"postgresql:// in its place{rest}"
    if scheme[1].lower() in _OTHER_SCHEMES:
        return f"the scheme {scheme[1]}://", _URI
    return "an unknown scheme before ://", _URI


def _check_keys(dsn: str) -> tuple[str, str] | None:
    """The first key that libpq does not know; shown only where it can be no part of a password."""
    if "://" not in dsn and re.search(r"(?i)(?:host|server|data source)\s*=[^;=]*;", dsn):
        return "semicolons between the parts", "key=value pairs with blanks between them"
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for key in _keys(dsn):
        if key in known:
            continue
        advice = _FOREIGN.get(re.sub(r"[_\s-]", "", key.lower()))
        if advice is not None:
            return f"the parameter {key}, which libpq does not know", advice
        near = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.75)
        if near:
            return f"a parameter libpq does not know, close to {near[0]}", near[0]
    if "[" in dsn and re.search(r":\[[^\]@]*\]@", dsn):
        return "a placeholder in brackets for the password", "the password, percent-encoded"
    return None


def _keys(dsn: str) -> Iterator[str]:
    """The names of parameters: behind the ? of a URI, or before each = of key=value pairs."""
    if "://" not in dsn:
        yield from re.findall(r"(?:^|\s)([A-Za-z][\w-]*)\s*=", dsn)
        return
    for pair in dsn.rpartition("@")[2].partition("?")[2].split("&"):
        yield unquote(pair.partition("=")[0])


def _is_torn(dsn: str, parts: Mapping[str, object]) -> bool:
    hosts = str(parts.get("host") or "").split(",")
    ports = str(parts.get("port") or "").split(",")
    return (
        any("@" in host for host in hosts if not host.startswith(("/", "@")))
        or any(port and not port.isdecimal() for port in ports)
        or ("://" in dsn and "@" in str(parts.get("dbname") or ""))
    )


def _check_values(parts: Mapping[str, object]) -> tuple[str, str] | None:
    """Values that libpq reads only when it connects."""
    for key, words in _WORDS.items():
        if key in parts and parts[key] not in words:
            return f"a value of {key} that is none", f"one of {', '.join(words)}"
    for key in _NUMBERS:
        if key in parts and not re.fullmatch(r"\s*-?\d+\s*", str(parts[key])):
            return f"a value of {key} that is no number", f"{key}=5"
    if re.fullmatch(r"\[.*\]|<.*>", str(parts.get("password") or "")):
        return "a placeholder in brackets for the password", "the password, percent-encoded"
    return None
