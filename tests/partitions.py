"""The platform's `messages` as a table partitioned by month of `created_at`, as large ones are.

A unique key of a partitioned table must hold the time, so no foreign key can refer to a message any
more, and no time can be missing. Indexes, triggers, foreign keys and policies stay as they were.
"""

from __future__ import annotations

from tests.servers import Platform

_COLUMNS_OF = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = 'public.messages'::regclass AND attnum > 0 AND NOT attisdropped
"""
_INDEXES = """
SELECT pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = 'public.messages'::regclass AND NOT indisprimary
"""
_TRIGGERS = """
SELECT pg_get_triggerdef(oid) FROM pg_trigger
WHERE tgrelid = 'public.messages'::regclass AND NOT tgisinternal
"""
_FOREIGN_KEYS = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'public.messages'::regclass AND contype = 'f'
"""
_POLICIES = """
SELECT
    format(
        'CREATE POLICY %I ON public.messages AS %s FOR %s TO %s %s %s',
        policyname, permissive, cmd, array_to_string(roles, ', '),
        'USING (' || qual || ')', 'WITH CHECK (' || with_check || ')'
    )
FROM pg_policies WHERE schemaname = 'public' AND tablename = 'messages'
"""


def partition_messages(platform: Platform, *, months_back: int, now: str = "now()") -> list[str]:
    """Move all messages into one partition per month; earlier and undated ones into the default.

    Args:
        platform: Its `messages` is replaced, within one transaction.
        months_back: How many months before the present one have a partition.
        now: SQL expression of the present.

    Returns:
        The months' partitions, the oldest first; one more month is made ahead.
    """
    columns = platform.value(_COLUMNS_OF)
    definitions = [
        definition
        for query in (_INDEXES, _FOREIGN_KEYS, _TRIGGERS, _POLICIES)
        for (definition,) in platform.fetch(query)
    ]
    statements = [
        "ALTER TABLE public.messages RENAME TO messages_whole",
        """
        CREATE TABLE public.messages (LIKE public.messages_whole INCLUDING DEFAULTS
            INCLUDING CONSTRAINTS, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at)
        """,
        "ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE public.messages_rest PARTITION OF public.messages DEFAULT",
    ]
    names = []
    for month in range(-months_back, 2):
        low, high, name = platform.fetch(
            f"SELECT low::text, (low + interval '1 month')::text, to_char(low, 'YYYY_MM') FROM"
            f" (SELECT date_trunc('month', {now}) + make_interval(months => %s) AS low) AS m",
            (month,),
        )[0]
        names.append(f"messages_{name}")
        statements.append(
            f"CREATE TABLE public.{names[-1]} PARTITION OF public.messages"
            f" FOR VALUES FROM ('{low}') TO ('{high}')"
        )
    statements += [
        f"INSERT INTO public.messages ({columns}) SELECT {columns} FROM public.messages_whole",
        "DROP TABLE public.messages_whole CASCADE",
        *(
            d if d.startswith("CREATE") else f"ALTER TABLE public.messages ADD {d}"
            for d in definitions
        ),
    ]
    with platform.connection.transaction():
        for statement in statements:
            platform.connection.execute(statement.encode())
    platform.execute("ANALYZE public.messages")
    return names
