-- Chats with a time that says nothing: infinite, or ahead of the database's clock.
--
-- Purpose: the other queries leave such a time out and take the next one that says something, so
--          that no wait hides behind it; here is how many chats have one. time_in_future: by more
--          than a minute, of an active chat or of any message or assignment. time_infinite:
--          infinity or -infinity, likewise; the platform's own functions fail on one in
--          chats.created_at or updated_at before PostgreSQL 17.
--          last_activity is a browser's clock and may be a day ahead. An operator whose own
--          last_activity is such a time counts with the chats. A released_at is looked for among
--          the assignments of the last day and of the chats that wait or are assigned.
-- Reads:   public.chats, public.messages, public.chat_assignments, public.operator_activity,
--          public.operators.
-- Cost:    one pass over all active chats, operators and heartbeats, the rest by index; about 0.12 s
--          at 1,000,000 chats, hence every 60 s.
WITH setting AS (
    SELECT
        now() + interval '1 minute' AS future,
        now() + interval '1 day' AS tomorrow
),

stamped AS (
    SELECT
        c.id,
        t.at,
        s.future
    FROM setting AS s
    CROSS JOIN public.chats AS c
    CROSS JOIN LATERAL (
        VALUES
        (c.created_at),
        (c.updated_at),
        (c.last_message_at),
        (c.assignment_time),
        (c.operator_replied_at)
    ) AS t (at)
    WHERE
        c.is_active
        AND (
            greatest(
                c.created_at,
                c.updated_at,
                c.last_message_at,
                c.assignment_time,
                c.operator_replied_at
            ) > s.future
            OR least(
                c.created_at,
                c.updated_at,
                c.last_message_at,
                c.assignment_time,
                c.operator_replied_at
            ) = '-infinity'
        )
    UNION ALL
    SELECT
        m.chat_id,
        m.created_at,
        s.future
    FROM setting AS s
    INNER JOIN public.messages AS m ON m.created_at > s.future
    UNION ALL
    SELECT
        m.chat_id,
        m.created_at,
        s.future
    FROM setting AS s
    INNER JOIN public.messages AS m ON m.created_at = '-infinity'
    UNION ALL
    SELECT
        a.chat_id,
        a.assigned_at,
        s.future
    FROM setting AS s
    INNER JOIN public.chat_assignments AS a ON a.assigned_at > s.future
    UNION ALL
    SELECT
        a.chat_id,
        a.assigned_at,
        s.future
    FROM setting AS s
    INNER JOIN public.chat_assignments AS a ON a.assigned_at = '-infinity'
    UNION ALL
    SELECT
        a.chat_id,
        a.released_at,
        s.future
    FROM setting AS s
    INNER JOIN public.chat_assignments AS a ON a.assigned_at > now() - interval '1 day'
    UNION ALL
    SELECT
        a.chat_id,
        a.released_at,
        s.future
    FROM setting AS s
    CROSS JOIN public.chats AS c
    CROSS JOIN LATERAL (
        SELECT
            a.chat_id,
            a.released_at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id
        OFFSET 0
    ) AS a
    WHERE c.is_active AND c.chat_state IN ('waiting_assignment', 'assigned')
    UNION ALL
    SELECT
        h.chat_id,
        t.at,
        t.future
    FROM setting AS s
    CROSS JOIN public.operator_activity AS h
    CROSS JOIN LATERAL (
        VALUES
        (h.updated_at, s.future),
        (h.last_activity, s.tomorrow)
    ) AS t (at, future)
    UNION ALL
    SELECT
        o.id,
        o.last_activity,
        s.tomorrow
    FROM setting AS s
    CROSS JOIN public.operators AS o
),

contradictions AS (
    SELECT DISTINCT
        t.id AS chat_id,
        CASE WHEN isfinite(t.at) THEN 'time_in_future' ELSE 'time_infinite' END AS name
    FROM stamped AS t
    WHERE t.at > t.future OR t.at = '-infinity'
)

SELECT
    count(*) FILTER (WHERE k.name = 'time_in_future') AS time_in_future,
    count(*) FILTER (WHERE k.name = 'time_infinite') AS time_infinite
FROM contradictions AS k
