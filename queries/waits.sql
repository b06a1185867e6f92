-- Waits of users, as events: each counts once, when it is answered or as soon as it is breached.
--
-- Purpose: the service level. A wait is a run of a user's unanswered messages. It is over for the
--          count when it is answered, or when it has lasted longer than slo.answer_within,
--          whichever comes first: a queue where no user is ever answered must not read as 0 of 0.
--          What is answered after its breach was counted by then. A chat that was closed before
--          owes no answer; its last write says when.
-- Reads:   public.messages, public.chats.
-- Cost:    in proportion to the messages since the last poll, and to those of as long a time one
--          slo.answer_within ago.
WITH
-- A run is known by its chat and the operator's message before it.
answered AS (
    -- Two answers of one instant, written in one request, end one wait.
    SELECT DISTINCT
        m.chat_id,
        before.at AS after_at,
        m.created_at AS at,
        0 AS breached
    FROM (
        SELECT
            r.chat_id,
            r.sender_type,
            r.created_at
        FROM public.messages AS r
        WHERE
            r.created_at > coalesce(
                %(since)s::timestamptz,
                now() - %(event_overlap)s::double precision * interval '1 second'
            )
            AND r.created_at <= now()
        OFFSET 0
    ) AS m
    LEFT JOIN LATERAL (
        SELECT max(p.created_at) AS at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.sender_type = 'fictional'
            AND p.created_at < m.created_at
    ) AS before ON true
    CROSS JOIN LATERAL (
        SELECT min(p.created_at) AS began_at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.sender_type = 'real'
            AND p.created_at < m.created_at
            AND p.created_at > coalesce(before.at, '-infinity')
    ) AS run
    WHERE
        m.sender_type = 'fictional'
        AND m.created_at
        <= run.began_at + %(slo_answer_within)s::double precision * interval '1 second'
),

breached AS (
    -- Two messages of one instant begin one wait.
    SELECT DISTINCT
        m.chat_id,
        before.at AS after_at,
        m.created_at + %(slo_answer_within)s::double precision * interval '1 second' AS at,
        1 AS breached
    FROM (
        SELECT
            r.chat_id,
            r.sender_type,
            r.created_at
        FROM public.messages AS r
        WHERE
            r.created_at > coalesce(
                %(since)s::timestamptz,
                now() - %(event_overlap)s::double precision * interval '1 second'
            ) - %(slo_answer_within)s::double precision * interval '1 second'
            AND r.created_at
            < now() - %(slo_answer_within)s::double precision * interval '1 second'
        OFFSET 0
    ) AS m
    CROSS JOIN LATERAL (
        SELECT
            c.is_active,
            c.updated_at
        FROM public.chats AS c
        WHERE c.id = m.chat_id
        OFFSET 0
    ) AS c
    LEFT JOIN LATERAL (
        SELECT max(p.created_at) AS at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.sender_type = 'fictional'
            AND p.created_at < m.created_at
    ) AS before ON true
    CROSS JOIN LATERAL (
        SELECT min(p.created_at) AS at
        FROM public.messages AS p
        WHERE
            p.chat_id = m.chat_id
            AND p.sender_type = 'fictional'
            AND p.created_at BETWEEN m.created_at AND now()
    ) AS answer
    WHERE
        m.sender_type = 'real'
        AND NOT EXISTS (
            SELECT 1
            FROM public.messages AS p
            WHERE
                p.chat_id = m.chat_id
                AND p.sender_type = 'real'
                AND p.created_at < m.created_at
                AND p.created_at > coalesce(before.at, '-infinity')
            OFFSET 0
        )
        AND (
            answer.at > m.created_at + %(slo_answer_within)s::double precision * interval '1 second'
            OR (
                answer.at IS NULL
                AND (
                    c.is_active
                    OR (
                        c.updated_at BETWEEN
                        m.created_at + %(slo_answer_within)s::double precision * interval '1 second'
                        AND now()
                        -- Or it is the user's next message that touched the closed chat.
                        AND NOT EXISTS (
                            SELECT 1
                            FROM public.messages AS p
                            WHERE
                                p.chat_id = m.chat_id
                                AND p.sender_type = 'real'
                                AND p.created_at > m.created_at
                                AND p.created_at > c.updated_at - interval '10 seconds'
                            OFFSET 0
                        )
                    )
                )
            )
        )
)

SELECT
    w.chat_id || ' ' || coalesce(extract(EPOCH FROM w.after_at)::text, '') AS key,
    w.at,
    w.breached
FROM (
    SELECT a.* FROM answered AS a
    UNION ALL
    SELECT b.* FROM breached AS b
) AS w
