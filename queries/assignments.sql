-- Assignments, as events: an operator took a chat.
--
-- Purpose: who takes how much and how fast, and whether operators keep getting the chat they had
--          last. An admin's reassignment inserts a second row that is released as it is born: that
--          is the end of an assignment and no assignment, and is left out here, also where it
--          carries the time of the assignment it ends.
--          The wait ends here for the queue, not for the user: it runs from the later of the chat's
--          last release and its first unanswered message, else from its creation.
--          "avoidable" is given where the operator had the same chat last: true when another chat
--          was waiting at that moment whose last operator was somebody else. What was waiting is
--          read from what still waits and from what was taken since.
-- Reads:   public.chat_assignments, public.messages, public.chats.
-- Cost:    in proportion to the assignments since the last poll (index on assigned_at), a few index
--          look-ups each; the waiting chats are looked at only where an operator got the same chat.
--          OFFSET 0 keeps the planner from joining with all chats instead.
WITH fresh AS (
    SELECT
        a.id,
        a.chat_id,
        a.operator_id,
        a.assigned_at,
        previous.operator_id AS previous_operator_id
    FROM public.chat_assignments AS a
    LEFT JOIN LATERAL (
        SELECT p.operator_id
        FROM public.chat_assignments AS p
        WHERE p.chat_id = a.chat_id AND p.assigned_at < a.assigned_at
        ORDER BY p.assigned_at DESC
        LIMIT 1
    ) AS previous ON true
    WHERE
        a.assigned_at > coalesce(
            %(since)s::timestamptz,
            now() - %(event_overlap)s::double precision * interval '1 second'
        )
        AND (
            a.released_at IS NULL
            OR a.released_at NOT IN (a.assigned_at, a.created_at)
        )
        AND NOT (
            coalesce(a.release_reason LIKE 'manual_reassignment_by_admin%%', false)
            AND EXISTS (
                SELECT 1
                FROM public.chat_assignments AS o
                WHERE
                    o.chat_id = a.chat_id
                    AND o.operator_id = a.operator_id
                    AND o.id <> a.id
                    AND o.assigned_at <= a.released_at
                    AND (o.released_at IS NULL OR o.released_at > a.released_at)
                OFFSET 0  -- or it may be hashed over the whole table
            )
        )
        AND NOT a.id = ANY(%(seen)s::uuid [])
),

repeated AS (
    SELECT
        f.id,
        f.chat_id,
        f.operator_id,
        f.assigned_at
    FROM fresh AS f
    WHERE f.previous_operator_id = f.operator_id
),

-- Chats that were in the queue at some time since, and until when.
queued AS (
    SELECT
        c.id AS chat_id,
        now() AS until,
        c.last_operator_id,
        c.created_at
    FROM public.chats AS c
    WHERE
        c.chat_state = 'waiting_assignment'
        AND c.is_active
        AND EXISTS (SELECT 1 FROM repeated)
    UNION ALL
    SELECT
        b.chat_id,
        b.assigned_at AS until,
        before.operator_id AS last_operator_id,
        c.created_at
    FROM public.chat_assignments AS b
    CROSS JOIN LATERAL (
        SELECT c.created_at FROM public.chats AS c WHERE c.id = b.chat_id OFFSET 0
    ) AS c
    LEFT JOIN LATERAL (
        SELECT p.operator_id
        FROM public.chat_assignments AS p
        WHERE p.chat_id = b.chat_id AND p.assigned_at < b.assigned_at
        ORDER BY p.assigned_at DESC
        LIMIT 1
    ) AS before ON true
    -- The watermark says nothing new here but to the planner, who cannot know the other bound.
    WHERE
        b.assigned_at > (SELECT min(r.assigned_at) FROM repeated AS r)
        AND b.assigned_at > coalesce(
            %(since)s::timestamptz,
            now() - %(event_overlap)s::double precision * interval '1 second'
        )
),

-- Once for all of the repeated, not once for each.
waited AS MATERIALIZED (
    SELECT
        q.chat_id,
        q.until,
        q.last_operator_id,
        coalesce(greatest(released.at, unanswered.at), q.created_at) AS since
    FROM queued AS q
    LEFT JOIN LATERAL (
        SELECT max(a.released_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = q.chat_id AND a.released_at <= q.until
    ) AS released ON true
    LEFT JOIN LATERAL (
        SELECT max(m.created_at) AS at
        FROM public.messages AS m
        WHERE m.chat_id = q.chat_id AND m.sender_type = 'fictional' AND m.created_at <= q.until
    ) AS answered ON true
    LEFT JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = q.chat_id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
            AND m.created_at <= q.until
    ) AS unanswered ON true
)

SELECT
    f.id::text AS key,
    f.assigned_at AS at,
    'waiting_assignment' AS from_state,
    'assigned' AS to_state,
    CASE
        WHEN f.previous_operator_id = f.operator_id
            THEN (
                SELECT count(*) > 0
                FROM waited AS w
                WHERE
                    w.chat_id <> f.chat_id
                    AND w.since < f.assigned_at
                    AND w.until > f.assigned_at
                    AND w.last_operator_id IS DISTINCT FROM f.operator_id
            )
    END AS avoidable,
    extract(
        EPOCH FROM f.assigned_at - coalesce(greatest(released.at, unanswered.at), c.created_at)
    ) AS answer_seconds
FROM fresh AS f
CROSS JOIN LATERAL (
    SELECT c.created_at FROM public.chats AS c WHERE c.id = f.chat_id OFFSET 0
) AS c
LEFT JOIN LATERAL (
    SELECT max(a.released_at) AS at
    FROM public.chat_assignments AS a
    WHERE a.chat_id = f.chat_id AND a.released_at <= f.assigned_at AND a.id <> f.id
) AS released ON true
LEFT JOIN LATERAL (
    SELECT max(m.created_at) AS at
    FROM public.messages AS m
    WHERE
        m.chat_id = f.chat_id
        AND m.sender_type = 'fictional'
        AND m.created_at <= f.assigned_at
) AS answered ON true
LEFT JOIN LATERAL (
    SELECT min(m.created_at) AS at
    FROM public.messages AS m
    WHERE
        m.chat_id = f.chat_id
        AND m.sender_type = 'real'
        AND m.created_at > coalesce(answered.at, '-infinity')
        AND m.created_at <= f.assigned_at
) AS unanswered ON true
