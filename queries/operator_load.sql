-- Distinct chats each operator was assigned in the last hour.
--
-- Purpose: who carries the work. Every active operator has a row, 0 included; beyond the cap of
--          operators.max_series the least busy are summed as "other", so that the number of series
--          stays bounded. Operators who share a name (or its first 100 characters, for a label is
--          cut at 128) are told apart by the start of their id.
-- Reads:   public.operators, public.chat_assignments.
-- Cost:    in proportion to the operators and the assignments of the last hour (index on
--          assigned_at).
WITH worked AS (
    SELECT
        a.operator_id,
        count(DISTINCT a.chat_id) AS chats
    FROM public.chat_assignments AS a
    WHERE
        a.assigned_at > now() - interval '1 hour'
        AND a.assigned_at <= now()
        AND a.operator_id IS NOT NULL
    GROUP BY a.operator_id
),

named AS (
    SELECT
        o.id,
        coalesce(w.chats, 0) AS chats,
        CASE
            WHEN %(operators_label)s::text = 'id' OR coalesce(o.name, '') IN ('', 'other')
                THEN o.id::text
            WHEN count(*) OVER (PARTITION BY left(o.name, 100)) > 1
                THEN left(o.name, 100) || ' (' || left(o.id::text, 8) || ')'
            ELSE left(o.name, 100)
        END AS operator
    FROM public.operators AS o
    LEFT JOIN worked AS w ON w.operator_id = o.id
    WHERE o.is_active OR w.chats > 0
),

ranked AS (
    SELECT
        CASE
            WHEN row_number() OVER (ORDER BY n.chats DESC, n.id)
                <= %(operators_max_series)s::integer
                THEN n.operator
            ELSE 'other'
        END AS operator,
        n.chats
    FROM named AS n
)

SELECT
    r.operator,
    sum(r.chats) AS operator_chats
FROM ranked AS r
GROUP BY r.operator
