-- Every assigned chat with what speaks for its operator being alive; times are Unix seconds.
--
-- Reads:  chats, chat_assignments, operator_activity, messages.
-- Cost:   in proportion to the assigned chats, by the platform's own indexes: messages only from
--         the assignment on, since an older one says nothing that the assignment does not.
--         2.5 ms with 200,000 chats of which 60 are assigned.
--
-- An admin's reassignment leaves the row of the earlier operator open for ever. It is superseded
-- by the rule that the queries have as well (tests/contracts/test_superseded.py): the row that the
-- admin copied from it has ended it. A row of the operator who has the chat never is: the platform's
-- release closes all of them.
--
-- A message of an operator that names nobody counts for the operator who has the chat: better
-- one chat left alone than one taken from somebody who just wrote.
SELECT
    c.id AS chat_id,
    c.assigned_operator_id AS operator_id,
    o.open_assignments,
    o.superseded_assignments,
    o.assignment_id,
    o.assignment_operator_id,
    extract(EPOCH FROM c.assignment_time)::double precision AS assignment_time_s,
    extract(EPOCH FROM o.assigned_at)::double precision AS assigned_at_s,
    extract(EPOCH FROM h.updated_at)::double precision AS beat_s,
    extract(EPOCH FROM h.last_activity)::double precision AS browser_beat_s,
    extract(EPOCH FROM m.sent_at)::double precision AS message_s,
    p.past_turns
FROM public.chats AS c
CROSS JOIN LATERAL (
    SELECT
        count(*)::integer AS open_assignments,
        count(*) FILTER (WHERE s.is_superseded)::integer AS superseded_assignments,
        (array_agg(a.id ORDER BY a.id) FILTER (WHERE NOT s.is_superseded))[1] AS assignment_id,
        (array_agg(a.operator_id ORDER BY a.id) FILTER (WHERE NOT s.is_superseded))[1]
            AS assignment_operator_id,
        max(a.assigned_at) FILTER (WHERE NOT s.is_superseded) AS assigned_at
    FROM public.chat_assignments AS a
    CROSS JOIN LATERAL (
        SELECT
            a.operator_id <> c.assigned_operator_id
            AND EXISTS (
                SELECT
                FROM public.chat_assignments AS q
                WHERE
                    q.chat_id = a.chat_id
                    AND q.operator_id = a.operator_id
                    AND q.id <> a.id
                    AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
                    AND q.released_at > a.assigned_at
                    AND q.released_at <= now()
                    AND (a.released_at IS NULL OR a.released_at > q.released_at)
            ) AS is_superseded
    ) AS s
    WHERE a.chat_id = c.id AND a.released_at IS NULL
) AS o
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS past_turns
    FROM public.chat_assignments AS a
    WHERE a.chat_id = c.id AND a.released_at IS NOT NULL
) AS p
CROSS JOIN LATERAL (
    SELECT max(b.updated_at) AS updated_at, max(b.last_activity) AS last_activity
    FROM public.operator_activity AS b
    WHERE b.chat_id = c.id AND b.operator_id = c.assigned_operator_id
) AS h
CROSS JOIN LATERAL (
    SELECT max(s.created_at) AS sent_at
    FROM public.messages AS s
    WHERE
        s.chat_id = c.id
        AND s.created_at >= least(c.assignment_time, o.assigned_at)
        AND s.sender_type = 'fictional'
        AND (
            s.handled_by_operator_id = c.assigned_operator_id
            OR s.handled_by_operator_id IS NULL
        )
) AS m
-- `assigned` implies an operator; saying so opens the platform's partial index.
WHERE c.is_active AND c.assigned_operator_id IS NOT NULL AND c.chat_state = 'assigned'
