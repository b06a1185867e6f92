-- One page of assignments in the order of their beginning, with what happened in each.
--
-- Purpose: the end of an assignment is the earliest of its release, an admin's taking it away
--          (which leaves the row open and inserts a second one) and the chat's next assignment.
--          Of a row without any of these the chat itself says whether it is still open.
--          An assignment shorter than every threshold is only counted: its messages are not read.
--          A message of an operator that names nobody counts for the operator who has the chat,
--          as it does where a release is decided.
-- Reads:   chat_assignments, messages, and of open assignments chats and operator_activity.
-- Cost:    in proportion to the page, by the platform's own indexes, whatever the tables hold.
WITH page AS MATERIALIZED (
    SELECT
        a.id,
        a.chat_id,
        a.operator_id,
        a.assigned_at,
        a.released_at,
        a.created_at,
        coalesce(a.release_reason, '') AS reason
    FROM public.chat_assignments AS a
    WHERE
        a.assigned_at < %(now_at)s
        AND (a.assigned_at, a.id) > (%(after_at)s, %(after_id)s)
    ORDER BY a.assigned_at, a.id
    LIMIT %(rows)s
)

SELECT
    p.id,
    p.assigned_at,
    p.chat_id IS NULL OR p.operator_id IS NULL AS names_nobody,
    -- Of an admin's second row; coalesce, for released_at is NULL of an open one.
    coalesce(p.released_at IN (p.assigned_at, p.created_at), false)
    OR (starts_with(p.reason, 'manual_reassignment_by_admin') AND coalesce(o.overlaps, false))
        AS is_second,
    extract(EPOCH FROM p.assigned_at)::double precision AS assigned_s,
    extract(EPOCH FROM e.ended_at)::double precision AS ended_s,
    coalesce(c.is_held, false) AS is_held,
    p.reason = 'operator_sent_message' AS is_answered,
    coalesce(b.owed, false) AS owed,
    m.times_s,
    m.writers,
    extract(EPOCH FROM h.beat_at)::double precision AS beat_s,
    o.past_turns
FROM page AS p
CROSS JOIN LATERAL (
    SELECT
        min(a.assigned_at) FILTER (WHERE a.assigned_at > p.assigned_at) AS next_at,
        min(a.released_at) FILTER (
            WHERE
                starts_with(a.release_reason, 'manual_reassignment_by_admin')
                AND a.operator_id = p.operator_id
                AND a.released_at >= p.assigned_at
        ) AS taken_at,
        count(*) FILTER (WHERE a.released_at <= p.assigned_at) AS past_turns,
        bool_or(
            a.operator_id = p.operator_id
            AND a.assigned_at <= p.released_at
            AND (a.released_at IS NULL OR a.released_at > p.released_at)
        ) AS overlaps
    FROM public.chat_assignments AS a
    WHERE a.chat_id = p.chat_id AND a.id <> p.id
) AS o
CROSS JOIN LATERAL (
    SELECT least(p.released_at, o.next_at, o.taken_at) AS ended_at
) AS e
CROSS JOIN LATERAL (
    SELECT
        coalesce(e.ended_at, %(now_at)s) AS until_at,
        coalesce(e.ended_at, %(now_at)s)
        >= p.assigned_at + %(shortest_s)s::double precision * interval '1 second' AS is_long
) AS s
LEFT JOIN LATERAL (
    SELECT
        c.is_active AND c.chat_state = 'assigned' AND c.assigned_operator_id = p.operator_id
            AS is_held
    FROM public.chats AS c
    WHERE c.id = p.chat_id AND e.ended_at IS NULL
    OFFSET 0  -- or all chats may be read for a page
) AS c ON true
LEFT JOIN LATERAL (
    SELECT max(greatest(a.updated_at, a.last_activity)) AS beat_at
    FROM public.operator_activity AS a
    WHERE a.chat_id = p.chat_id AND a.operator_id = p.operator_id AND c.is_held
) AS h ON true
LEFT JOIN LATERAL (
    SELECT t.sender_type = 'real' AS owed
    FROM public.messages AS t
    WHERE t.chat_id = p.chat_id AND t.created_at < p.assigned_at AND s.is_long
    ORDER BY t.created_at DESC, t.sender_type
    LIMIT 1
) AS b ON true
LEFT JOIN LATERAL (
    SELECT
        array_agg(
            extract(EPOCH FROM r.created_at)::double precision
            ORDER BY r.created_at, r.sender_type DESC
        ) AS times_s,
        array_agg(r.writer ORDER BY r.created_at, r.sender_type DESC) AS writers
    FROM (
        SELECT
            t.created_at,
            t.sender_type,
            CASE
                WHEN t.sender_type = 'real' THEN 'user'
                WHEN coalesce(t.handled_by_operator_id, p.operator_id) = p.operator_id
                    THEN 'holder'
                ELSE 'other'
            END AS writer,
            -- Of messages at the same moment the user's comes first: it was answered at once.
            lag(t.sender_type) OVER (ORDER BY t.created_at, t.sender_type DESC) AS previous
        FROM public.messages AS t
        WHERE
            t.chat_id = p.chat_id
            AND t.created_at >= p.assigned_at
            AND t.created_at <= s.until_at
            AND s.is_long
    ) AS r
    -- Of a run of the user's messages the first one says all.
    WHERE r.sender_type <> 'real' OR r.previous IS DISTINCT FROM 'real'
) AS m ON true
ORDER BY p.assigned_at, p.id
