-- Assignments, as events: an operator took a chat.
--
-- Purpose: who takes how much and how fast, and whether operators keep getting the chat they had
--          last. An admin's reassignment copies the row that it ends, released as it is born: the
--          copy is the end of an assignment and no assignment, and is left out here.
--          from_state is assigned where such a copy ended less than a minute before: the chat went
--          straight from one operator to another. It is waiting_real_user_reply or completed where
--          the last turn ended so and the user has not written since: only an admin can assign
--          such a chat. Both were chosen by a person: no chat left the queue, so there is no speed
--          of answer, and a repeat could not be avoided.
--          The wait ends here for the queue, not for the user: it runs from the later of the chat's
--          last release and its first unanswered message, else from its creation.
--          "avoidable" is given where the operator had the same chat last: true when another chat
--          was waiting at that time whose last operator was another one. What was waiting is
--          read from what still waits and from what was taken from the queue since.
--          A time that is infinite or ahead of the database's clock says nothing; an assignment
--          stamped ahead of it counts when its time comes.
-- Reads:   public.chat_assignments, public.messages, public.chats.
-- Cost:    in proportion to the assignments since the last poll (index on assigned_at), a few index
--          look-ups each; the waiting chats are looked at only where an operator got the same chat.
--          OFFSET 0 keeps the planner from joining with all chats instead.
WITH taken AS MATERIALIZED (
    SELECT
        q.id,
        q.chat_id,
        q.operator_id,
        q.assigned_at,
        q.id NOT IN (SELECT s.id FROM unnest(%(seen)s::uuid []) AS s (id)) AS is_fresh,
        previous.operator_id AS previous_operator_id
    FROM public.chat_assignments AS q
    LEFT JOIN LATERAL (
        SELECT p.operator_id
        FROM public.chat_assignments AS p
        WHERE p.chat_id = q.chat_id AND p.assigned_at < q.assigned_at
        ORDER BY p.assigned_at DESC
        LIMIT 1
    ) AS previous ON true
    WHERE
        q.assigned_at > coalesce(
            %(since)s::timestamptz,
            now() - %(event_overlap)s::double precision * interval '1 second'
        )
        AND q.assigned_at <= now()
        AND (q.released_at IN (q.assigned_at, q.created_at)) IS NOT TRUE
        AND NOT EXISTS (
            SELECT 1
            FROM public.chat_assignments AS a
            WHERE
                q.chat_id = a.chat_id
                AND q.operator_id = a.operator_id
                AND q.id <> a.id
                AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
                AND q.released_at > a.assigned_at
                AND q.released_at <= now()
                AND (a.released_at IS NULL OR a.released_at > q.released_at)
            OFFSET 0  -- or it may be hashed over the whole table
        )
),

repeated AS (
    SELECT min(t.assigned_at) AS since
    FROM taken AS t
    WHERE t.is_fresh AND t.previous_operator_id = t.operator_id
    HAVING count(*) > 0
),

-- Fresh assignments; and, where one repeats, chats that were in the queue at some time since.
-- id is NULL where the chat still is.
queued AS (
    SELECT
        t.id,
        t.chat_id,
        t.assigned_at AS until,
        t.previous_operator_id AS last_operator_id,
        c.created_at
    FROM taken AS t
    CROSS JOIN LATERAL (
        SELECT c.created_at FROM public.chats AS c WHERE c.id = t.chat_id OFFSET 0
    ) AS c
    WHERE t.is_fresh OR t.assigned_at > (SELECT r.since FROM repeated AS r)
    UNION ALL
    SELECT
        NULL AS id,
        c.id AS chat_id,
        now() AS until,
        c.last_operator_id,
        c.created_at
    FROM public.chats AS c
    WHERE
        c.chat_state = 'waiting_assignment'
        AND c.is_active
        AND EXISTS (SELECT 1 FROM repeated)
),

-- Once for each, not once for each of the repeated.
waited AS MATERIALIZED (
    SELECT
        q.id,
        q.chat_id,
        q.until,
        q.last_operator_id,
        CASE
            WHEN q.id IS NULL THEN 'waiting_assignment'
            WHEN
                starts_with(released.reason, 'manual_reassignment_by_admin')
                AND released.at > q.until - interval '1 minute'
                AND EXISTS (
                    SELECT 1
                    FROM public.chat_assignments AS o
                    WHERE
                        o.chat_id = q.chat_id
                        AND o.operator_id = released.operator_id
                        AND o.id <> released.id
                        AND o.assigned_at < released.at
                        AND (o.released_at IS NULL OR o.released_at > released.at)
                    OFFSET 0
                )
                THEN 'assigned'
            WHEN
                released.reason LIKE '%% - max reassignments reached'
                AND (unanswered.at > released.at) IS NOT TRUE
                THEN 'completed'
            WHEN unanswered.at IS NOT NULL THEN 'waiting_assignment'
            WHEN released.reason = 'operator_sent_message' THEN 'waiting_real_user_reply'
            ELSE 'waiting_assignment'
        END AS from_state,
        coalesce(
            greatest(released.at, unanswered.at),
            CASE WHEN q.created_at > '-infinity' AND q.created_at <= now() THEN q.created_at END
        ) AS since
    FROM queued AS q
    LEFT JOIN LATERAL (
        SELECT
            a.id,
            a.operator_id,
            a.released_at AS at,
            a.release_reason AS reason
        FROM public.chat_assignments AS a
        WHERE
            a.chat_id = q.chat_id
            AND a.released_at > '-infinity'
            AND a.released_at <= q.until
            AND a.id IS DISTINCT FROM q.id
        ORDER BY a.released_at DESC, a.created_at DESC
        LIMIT 1
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
    t.id::text AS key,
    t.assigned_at AS at,
    o.from_state,
    'assigned' AS to_state,
    CASE
        WHEN t.previous_operator_id = t.operator_id AND o.from_state = 'waiting_assignment'
            THEN (
                SELECT count(*) > 0
                FROM waited AS w
                WHERE
                    w.chat_id <> t.chat_id
                    AND w.from_state = 'waiting_assignment'
                    AND w.since < t.assigned_at
                    AND w.until > t.assigned_at
                    AND w.last_operator_id IS DISTINCT FROM t.operator_id
            )
    END AS avoidable,
    CASE
        WHEN o.from_state = 'waiting_assignment' THEN extract(EPOCH FROM t.assigned_at - o.since)
    END AS answer_seconds
FROM taken AS t
INNER JOIN waited AS o ON o.id = t.id
WHERE t.is_fresh
