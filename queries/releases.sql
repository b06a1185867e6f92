-- Releases, as events: an assignment row ended.
--
-- Purpose: how assignments end, and how long operators handle a chat. released_at has no
--          index, so open rows are remembered by the daemon and asked for again by id until they
--          have ended; the first run finds them by the assigned chats and the last day's rows.
--          Reasons are free text and never a label: events.release_reasons and the built-in
--          patterns (exporter/polling/plan.py) map them to the outcome, in that order, else to other.
--          An admin's reassignment copies the row that it ends, released as it is born, and leaves
--          the first one open for ever: the copy is the release, without a change of state, for the
--          chat goes straight to the next operator (see assignments); the first one is none.
--          A row that is closed after the chat was assigned again was left open by a half-done
--          reply: it is a release, and neither a change of state nor a handle time.
--          idle_by says who gave an idle chat back: the platform's job, or the operator's own page,
--          which proves nothing about the job. A release that closed the chat instead counts too.
--          A released_at that is infinite or ahead of the database's clock ends the row all the
--          same, without a handle time.
-- Reads:   public.chat_assignments, public.chats.
-- Cost:    one index look-up for each open assignment; a few for each that is new, or has ended,
--          or whose chat its operator no longer holds. OFFSET 0 keeps the planner from joining with
--          the whole table instead.
WITH held AS MATERIALIZED (
    SELECT
        c.id,
        c.assigned_operator_id AS operator_id
    FROM (
        SELECT
            a.id,
            a.assigned_operator_id,
            a.chat_state
        FROM public.chats AS a
        WHERE a.is_active AND a.assigned_operator_id IS NOT NULL
        OFFSET 0  -- or PostgreSQL 18 looks up the state as well, operator by operator
    ) AS c
    WHERE c.chat_state = 'assigned'
),

-- Remembered rows that have ended, or may have: by a copy, or by being deleted.
candidates AS MATERIALIZED (
    SELECT p.id
    FROM unnest(%(pending)s::uuid []) AS p (id)
    LEFT JOIN LATERAL (
        SELECT
            a.chat_id,
            a.operator_id,
            a.released_at
        FROM public.chat_assignments AS a
        WHERE a.id = p.id
        OFFSET 0
    ) AS a ON true
    WHERE
        a.released_at IS NOT NULL
        OR NOT EXISTS (
            SELECT 1 FROM held AS h WHERE h.id = a.chat_id AND h.operator_id = a.operator_id
        )
),

known AS (
    SELECT c.id
    FROM candidates AS c
    UNION
    SELECT a.id
    FROM held AS h
    INNER JOIN public.chat_assignments AS a ON a.chat_id = h.id AND a.released_at IS NULL
    -- Afterwards they are remembered.
    WHERE %(since)s::timestamptz IS NULL
    UNION
    SELECT a.id
    FROM public.chat_assignments AS a
    WHERE
        a.assigned_at > coalesce(%(since)s::timestamptz, now() - interval '1 day')
        AND a.assigned_at <= now()
        AND (
            a.released_at IS NULL
            OR a.assigned_at > now() - 2 * %(event_overlap)s::double precision
            * interval '1 second'
            OR %(since)s::timestamptz IS NOT NULL
        )
),

rows_known AS MATERIALIZED (
    SELECT a.*
    FROM known AS k
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
        WHERE a.id = k.id
        OFFSET 0
    ) AS a
),

-- An admin's copy carries the time of the assignment that it ends.
copies AS MATERIALIZED (
    SELECT q.*
    FROM (SELECT DISTINCT r.chat_id FROM rows_known AS r) AS n
    CROSS JOIN LATERAL (
        SELECT
            q.id,
            q.chat_id,
            q.operator_id,
            q.assigned_at,
            q.created_at,
            q.released_at,
            q.release_reason
        FROM public.chat_assignments AS q
        WHERE
            q.chat_id = n.chat_id
            AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
        OFFSET 0
    ) AS q
    WHERE q.released_at IS NOT NULL
),

-- Which row (a) an admin's reassignment left open, and its copy (q).
superseded AS MATERIALIZED (
    SELECT
        a.id,
        q.id AS copy_id
    FROM copies AS q
    CROSS JOIN LATERAL (
        SELECT a.id
        FROM public.chat_assignments AS a
        WHERE
            q.chat_id = a.chat_id
            AND q.operator_id = a.operator_id
            AND q.id <> a.id
            AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
            AND q.released_at > a.assigned_at
            AND q.released_at <= now()
            AND (a.released_at IS NULL OR a.released_at > q.released_at)
        OFFSET 0
    ) AS a
),

ended AS MATERIALIZED (
    SELECT r.*
    FROM rows_known AS r
    UNION
    SELECT q.*
    FROM copies AS q
    WHERE
        q.created_at > coalesce(
            %(since)s::timestamptz,
            now() - 2 * %(event_overlap)s::double precision * interval '1 second'
        )
        -- Its chat may have stayed with the operator for a while.
        OR EXISTS (
            SELECT 1
            FROM superseded AS s
            INNER JOIN candidates AS c ON c.id = s.id
            WHERE s.copy_id = q.id
        )
)

SELECT
    e.id::text AS key,
    CASE
        WHEN e.released_at > '-infinity' AND e.released_at <= now() THEN e.released_at
        WHEN e.released_at IS NOT NULL THEN now()
    END AS at,
    CASE
        WHEN e.assigned_at > '-infinity' OR e.created_at > '-infinity'
            THEN least(greatest(e.assigned_at, e.created_at), now())
    END AS window_at,
    mapped.outcome,
    CASE
        WHEN starts_with(e.release_reason, 'operator_idle_timeout') THEN 'page'
        WHEN mapped.outcome = 'idle_timeout' OR starts_with(e.release_reason, 'idle_timeout - ')
            THEN 'job'
    END AS idle_by,
    CASE
        WHEN
            NOT turn.is_overtaken
            AND NOT EXISTS (SELECT 1 FROM superseded AS s WHERE s.copy_id = e.id)
            THEN 'assigned'
    END AS from_state,
    -- A row that the user's next message closes had been answered, and left open by mistake.
    CASE
        WHEN mapped.outcome IN ('replied', 'customer_replied') THEN 'waiting_real_user_reply'
        WHEN mapped.outcome = 'closed' THEN 'completed'
        ELSE 'waiting_assignment'
    END AS to_state,
    CASE
        WHEN
            mapped.outcome = 'replied'
            AND NOT turn.is_overtaken
            AND e.assigned_at > '-infinity'
            AND e.assigned_at <= now()
            AND e.released_at > '-infinity'
            AND e.released_at <= now()
            THEN extract(EPOCH FROM e.released_at - e.assigned_at)
    END AS handle_seconds
FROM ended AS e
CROSS JOIN LATERAL (
    SELECT
        -- An open row has no reason to look for a pattern in.
        CASE
            WHEN e.release_reason IS NULL THEN 'other'
            ELSE coalesce(
                (
                    SELECT r.outcome
                    FROM unnest(
                        %(release_patterns)s::text [], %(release_outcomes)s::text []
                    ) WITH ORDINALITY AS r (pattern, outcome, rank)
                    WHERE e.release_reason LIKE r.pattern
                    ORDER BY r.rank
                    LIMIT 1
                ),
                'other'
            )
        END AS outcome
    OFFSET 0  -- or it is looked for once more wherever it is named
) AS mapped
CROSS JOIN LATERAL (
    SELECT
        e.released_at IS NOT NULL
        AND EXISTS (
            SELECT 1
            FROM public.chat_assignments AS b
            WHERE
                b.chat_id = e.chat_id
                AND b.assigned_at > e.assigned_at
                AND b.assigned_at < e.released_at
                AND b.assigned_at <= now()
                AND b.id <> e.id
            OFFSET 0
        ) AS is_overtaken
    OFFSET 0
) AS turn
-- A row that was left open has ended with its copy: it is not waited for, and not counted again
-- where a later reply of the same operator closes it too.
WHERE
    NOT EXISTS (SELECT 1 FROM superseded AS s WHERE s.id = e.id)
    AND e.id NOT IN (SELECT s.id FROM unnest(%(seen)s::uuid []) AS s (id))
UNION ALL
-- No event of any kind, and not remembered any more: it ended with its copy, or was deleted.
SELECT
    c.id::text AS key,
    now() AS at,
    NULL AS window_at,
    NULL AS outcome,
    NULL AS idle_by,
    NULL AS from_state,
    NULL AS to_state,
    NULL AS handle_seconds
FROM candidates AS c
WHERE
    EXISTS (SELECT 1 FROM superseded AS s WHERE s.id = c.id)
    OR NOT EXISTS (SELECT 1 FROM rows_known AS r WHERE r.id = c.id)
