-- Releases, as events: an assignment row ended.
--
-- Purpose: how assignments end, and how long operators have a chat in hand. released_at has no
--          index, so open rows are remembered by the daemon and asked for again by id until they
--          have ended; the first run finds them by the assigned chats and the last day's rows.
--          Reasons are free text and never a label: events.release_reasons and the built-in
--          patterns (exporter/planning.py) map them to the outcome, in that order, else to other.
--          An admin's reassignment is a row born released; the row it should have closed stays
--          open for ever and never ends.
-- Reads:   public.chat_assignments, public.chats.
-- Cost:    in proportion to the new and the open assignments: a few index look-ups each. OFFSET 0
--          keeps the planner from joining with the whole table instead.
WITH known AS (
    SELECT p.id
    FROM unnest(%(pending)s::uuid []) AS p (id)
    UNION
    SELECT a.id
    FROM public.chats AS c
    INNER JOIN public.chat_assignments AS a ON a.chat_id = c.id AND a.released_at IS NULL
    WHERE
        c.chat_state = 'assigned'
        AND c.is_active
        AND c.assigned_operator_id IS NOT NULL
        -- Afterwards they are pending.
        AND %(since)s::timestamptz IS NULL
    UNION
    SELECT a.id
    FROM public.chat_assignments AS a
    WHERE
        a.assigned_at > coalesce(%(since)s::timestamptz, now() - interval '1 day')
        AND (
            a.released_at IS NULL
            OR a.assigned_at > now() - 2 * %(event_overlap)s::double precision
            * interval '1 second'
            OR %(since)s::timestamptz IS NOT NULL
        )
),

candidates AS (
    SELECT k.id
    FROM known AS k
    UNION
    -- An admin's row may carry the time of the assignment that it ends.
    SELECT b.id
    FROM known AS k
    CROSS JOIN LATERAL (
        SELECT a.chat_id FROM public.chat_assignments AS a WHERE a.id = k.id OFFSET 0
    ) AS a
    CROSS JOIN LATERAL (
        SELECT
            b.id,
            b.created_at,
            b.released_at,
            b.release_reason
        FROM public.chat_assignments AS b
        WHERE b.chat_id = a.chat_id
        OFFSET 0
    ) AS b
    WHERE
        b.released_at IS NOT NULL
        AND b.release_reason LIKE 'manual_reassignment_by_admin%%'
        AND b.created_at > coalesce(
            %(since)s::timestamptz,
            now() - 2 * %(event_overlap)s::double precision * interval '1 second'
        )
)

SELECT
    a.id::text AS key,
    a.released_at AS at,
    greatest(a.assigned_at, a.created_at) AS window_at,
    mapped.outcome,
    'assigned' AS from_state,
    -- A row that the user's next message closes had been answered, and left open by mistake.
    CASE
        WHEN mapped.outcome IN ('replied', 'customer_replied') THEN 'waiting_real_user_reply'
        WHEN mapped.outcome = 'closed' THEN 'completed'
        ELSE 'waiting_assignment'
    END AS to_state,
    CASE
        WHEN mapped.outcome = 'replied' THEN extract(EPOCH FROM a.released_at - a.assigned_at)
    END AS handle_seconds
FROM candidates AS n
CROSS JOIN LATERAL (
    SELECT
        a.id,
        a.chat_id,
        a.operator_id,
        a.assigned_at,
        a.created_at,
        a.released_at,
        a.release_reason
    FROM public.chat_assignments AS a
    WHERE a.id = n.id
    OFFSET 0
) AS a
CROSS JOIN LATERAL (
    SELECT
        -- An open row has no reason to look for a pattern in.
        CASE
            WHEN a.release_reason IS NULL THEN 'other'
            ELSE coalesce(
                (
                    SELECT r.outcome
                    FROM unnest(
                        %(release_patterns)s::text [], %(release_outcomes)s::text []
                    ) WITH ORDINALITY AS r (pattern, outcome, rank)
                    WHERE a.release_reason LIKE r.pattern
                    ORDER BY r.rank
                    LIMIT 1
                ),
                'other'
            )
        END AS outcome
    OFFSET 0  -- or it is looked for once more wherever it is named
) AS mapped
WHERE
    NOT a.id = ANY(%(seen)s::uuid [])
    -- The row that an admin's reassignment leaves open has ended with the admin's row: it is not
    -- waited for, and not counted again where a later reply of the same operator closes it too.
    AND NOT EXISTS (
        SELECT 1
        FROM public.chat_assignments AS q
        WHERE
            q.chat_id = a.chat_id
            AND q.operator_id = a.operator_id
            AND q.released_at >= a.assigned_at
            AND q.id <> a.id
            AND q.release_reason LIKE 'manual_reassignment_by_admin%%'
            AND (a.released_at IS NULL OR a.released_at > q.released_at)
        OFFSET 0
    )
