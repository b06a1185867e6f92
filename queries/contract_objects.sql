-- What the assignment fix (migrations 014 to 016) put into the database, and whether it is there.
--
-- Purpose: a later migration that drops an index, loosens a constraint or replaces a function is
--          noticed. Each object is described in one text, made the same way however the DDL was written
--          and whichever server prints it: casts, brackets, the order of AND and the spelling of
--          `is_active = true` mean nothing. `chatqueue verify` shows expected, found and remedy.
--          An index must be on the columns and the condition, valid and not unique; a constraint on
--          the columns, about the state and validated; a function has arguments by name and type.
-- Reads:   system catalogues only, so no missing privilege and no search_path can mislead it.
-- Cost:    about 3 ms, whatever the size of the tables.
WITH contract (kind, name, expected, remedy) AS (
    VALUES
    (
        'column', 'chats.chat_state', 'text default ''waiting_assignment''',
        'ALTER TABLE public.chats ADD IF NOT EXISTS chat_state text,'
        ' ALTER chat_state SET DEFAULT ''waiting_assignment'''
    ),
    (
        'column', 'chats.last_operator_id', 'uuid',
        'ALTER TABLE public.chats ADD IF NOT EXISTS last_operator_id uuid'
        ' REFERENCES public.operators ON DELETE SET NULL'
    ),
    (
        'column', 'chats.operator_replied_at', 'timestamp with time zone',
        'ALTER TABLE public.chats ADD IF NOT EXISTS operator_replied_at timestamptz'
    ),
    (
        'index', 'idx_chats_waiting_assignment',
        'btree (created_at) where chat_state = ''waiting_assignment'' and is_active',
        'DROP INDEX IF EXISTS public.idx_chats_waiting_assignment; CREATE INDEX CONCURRENTLY'
        ' idx_chats_waiting_assignment ON public.chats (created_at)'
        ' WHERE chat_state = ''waiting_assignment'' AND is_active = true'
    ),
    (
        'index', 'idx_chats_last_operator', 'btree (last_operator_id, chat_state) where is_active',
        'DROP INDEX IF EXISTS public.idx_chats_last_operator; CREATE INDEX CONCURRENTLY'
        ' idx_chats_last_operator ON public.chats (last_operator_id, chat_state)'
        ' WHERE is_active = true'
    ),
    (
        'index', 'idx_chats_operator_replied',
        'btree (operator_replied_at) where chat_state = ''waiting_real_user_reply''',
        'DROP INDEX IF EXISTS public.idx_chats_operator_replied; CREATE INDEX CONCURRENTLY'
        ' idx_chats_operator_replied ON public.chats (operator_replied_at)'
        ' WHERE chat_state = ''waiting_real_user_reply'''
    ),
    (
        'constraint', 'chk_assigned_state_has_operator',
        'check (assigned_operator_id, chat_state) of assigned',
        'ALTER TABLE public.chats ADD CONSTRAINT chk_assigned_state_has_operator'
        ' CHECK (chat_state <> ''assigned'' OR assigned_operator_id IS NOT NULL) NOT VALID;'
        ' ALTER TABLE public.chats VALIDATE CONSTRAINT chk_assigned_state_has_operator'
    ),
    (
        'constraint', 'chk_waiting_reply_has_timestamp',
        'check (chat_state, operator_replied_at) of waiting_real_user_reply',
        'ALTER TABLE public.chats ADD CONSTRAINT chk_waiting_reply_has_timestamp CHECK'
        ' (chat_state <> ''waiting_real_user_reply'' OR operator_replied_at IS NOT NULL) NOT VALID;'
        ' ALTER TABLE public.chats VALIDATE CONSTRAINT chk_waiting_reply_has_timestamp'
    ),
    (
        'function', 'get_assignment_queue_status',
        '() returns TABLE(total_waiting integer, total_assigned integer,'
        ' total_waiting_reply integer, oldest_waiting_chat timestamp with time zone,'
        ' average_wait_time_minutes numeric)',
        'apply the migrations of the fix (014 to 016) again'
    ),
    (
        'function', 'detect_stuck_chats',
        '(p_hours integer) returns TABLE(chat_id uuid, chat_state text,'
        ' assigned_operator_id uuid, last_operator_id uuid, hours_in_state numeric,'
        ' last_message_at timestamp with time zone)',
        'apply the migrations of the fix (014 to 016) again'
    ),
    (
        'function', 'release_and_reassign_chat', '(p_chat_id uuid, p_reason text) returns boolean',
        'apply the migrations of the fix (014 to 016) again'
    ),
    (
        'function', 'assign_chat_to_operator',
        '(p_operator_id uuid) returns uuid, security definer',
        'apply the migrations of the fix (014 to 016) again'
    ),
    (
        'function', 'validate_chat_state_transition', '() returns trigger',
        'apply the migrations of the fix (014 to 016) again'
    ),
    (
        'view', 'chat_state_summary',
        '(chat_state, count, with_operator, has_last_operator, oldest_chat, newest_chat)',
        'apply the migrations of the fix (014 to 016) again'
    )
),

chats AS (
    SELECT r.oid
    FROM pg_catalog.pg_class AS r
    INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
    WHERE n.nspname = 'public' AND r.relname = 'chats'
),

-- What the server prints depends on the search_path; what follows takes that and all else that
-- means nothing out of it.
printed AS (
    SELECT
        'column' AS kind,
        d.oid,
        pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM pg_catalog.pg_attrdef AS d
    INNER JOIN chats AS t ON t.oid = d.adrelid
    UNION ALL
    SELECT
        'index' AS kind,
        i.indexrelid,
        pg_catalog.pg_get_expr(i.indpred, i.indrelid)
    FROM pg_catalog.pg_index AS i
    INNER JOIN chats AS t ON t.oid = i.indrelid
    UNION ALL
    SELECT
        'constraint' AS kind,
        k.oid,
        pg_catalog.pg_get_expr(k.conbin, k.conrelid)
    FROM pg_catalog.pg_constraint AS k
    INNER JOIN chats AS t ON t.oid = k.conrelid
),

bared AS (
    SELECT
        p.kind,
        p.oid,
        pg_catalog.regexp_replace(
            pg_catalog.regexp_replace(
                pg_catalog.regexp_replace(p.expression, 'OPERATOR\(pg_catalog\.(\S+?)\)', '\1', 'g'),
                '::(pg_catalog\.)?("?text"?|character varying)(\(\d+\))?|[()]', '', 'g'
            ),
            '\mis_active (= true|IS TRUE)', 'is_active', 'g'
        ) AS expression
    FROM printed AS p
),

expressions AS (
    SELECT
        b.kind,
        b.oid,
        b.expression,
        (
            SELECT pg_catalog.string_agg(term, ' and ' ORDER BY term COLLATE "C")
            FROM pg_catalog.regexp_split_to_table(b.expression, ' AND ') AS term
        ) AS terms
    FROM bared AS b
),

found AS (
    SELECT
        'column' AS kind,
        'chats.' || a.attname AS name,
        pg_catalog.regexp_replace(
            pg_catalog.format_type(a.atttypid, a.atttypmod), '^pg_catalog\.|"', '', 'g'
        ) || coalesce(' default ' || e.expression, '') AS found
    FROM pg_catalog.pg_attribute AS a
    INNER JOIN chats AS t ON t.oid = a.attrelid
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN expressions AS e ON e.kind = 'column' AND e.oid = d.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped

    UNION ALL

    SELECT
        'index' AS kind,
        r.relname AS name,
        CASE WHEN i.indisunique THEN 'unique ' ELSE '' END
        || m.amname || ' ('
        || (
            SELECT
                pg_catalog.string_agg(
                    pg_catalog.pg_get_indexdef(i.indexrelid, n, false), ', ' ORDER BY n
                )
            FROM pg_catalog.generate_series(1, i.indnkeyatts::integer) AS n
        )
        || ')' || coalesce(' where ' || e.terms, '')
        || CASE WHEN i.indisvalid AND i.indisready AND i.indislive THEN '' ELSE ', invalid' END
    FROM pg_catalog.pg_index AS i
    INNER JOIN chats AS t ON t.oid = i.indrelid
    INNER JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid
    INNER JOIN pg_catalog.pg_am AS m ON m.oid = r.relam
    LEFT JOIN expressions AS e ON e.kind = 'index' AND e.oid = i.indexrelid

    UNION ALL

    SELECT
        'constraint' AS kind,
        k.conname AS name,
        'check ('
        || (
            SELECT pg_catalog.string_agg(a.attname, ', ' ORDER BY a.attname)
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)
        )
        || ')'
        || coalesce(
            (
                SELECT ' of ' || pg_catalog.string_agg(state, ', ' ORDER BY state)
                FROM (VALUES ('assigned'), ('waiting_real_user_reply')) AS s (state)
                WHERE pg_catalog.strpos(e.expression, pg_catalog.quote_literal(state)) > 0
            ), ''
        )
        || CASE WHEN k.convalidated THEN '' ELSE ', not valid' END
    FROM pg_catalog.pg_constraint AS k
    INNER JOIN chats AS t ON t.oid = k.conrelid
    LEFT JOIN expressions AS e ON e.kind = 'constraint' AND e.oid = k.oid
    WHERE k.contype = 'c'

    UNION ALL

    SELECT
        'function' AS kind,
        p.proname AS name,
        '('
        || pg_catalog.replace(
            pg_catalog.pg_get_function_identity_arguments(p.oid)
            || ') returns ' || pg_catalog.pg_get_function_result(p.oid),
            'pg_catalog.', ''
        )
        || CASE
            WHEN p.prosecdef AND p.proname = 'assign_chat_to_operator' THEN ', security definer'
            ELSE ''
        END
    FROM pg_catalog.pg_proc AS p
    INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND p.prokind = 'f'

    UNION ALL

    SELECT
        'view' AS kind,
        r.relname AS name,
        '('
        || (
            SELECT pg_catalog.string_agg(a.attname, ', ' ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        )
        || ')'
    FROM pg_catalog.pg_class AS r
    INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
    WHERE n.nspname = 'public' AND r.relkind = 'v'
)

SELECT
    c.kind,
    c.name,
    c.expected,
    -- A function may be there several times, with other arguments.
    coalesce(pg_catalog.string_agg(f.found, '; ' ORDER BY f.found), 'missing') AS found,
    coalesce(pg_catalog.bool_or(f.found = c.expected), false) AS ok,
    c.remedy
FROM contract AS c
LEFT JOIN found AS f ON f.kind = c.kind AND f.name = c.name
GROUP BY c.kind, c.name, c.expected, c.remedy
ORDER BY c.kind, c.name
