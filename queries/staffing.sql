-- How many operators the present load needs, and how long the queue takes to empty.
--
-- Purpose: operators_required is the smallest number for which Erlang C gives the service level's
--          objective: P(wait <= T) = 1 - C(n, a) * exp(-(n - a) * T / h), with the load
--          a = arrivals * h in erlangs, h the mean handle time, T slo.answer_within. C comes from
--          Erlang B by the recursion B(0) = 1, B(n) = a B(n-1) / (n + a B(n-1)), and
--          C = n B / (n - a (1 - B)). Source: A. K. Erlang, 1917, as in R. B. Cooper, Introduction
--          to Queueing Theory, 2nd ed. 1981, sections 3.3 and 3.4. It takes users who never give up
--          and operators who hold one chat at a time, as the platform has it.
--          Beyond 20,000 operators there is no sample.
--          queue_drain is the queue over its net pace of the last 10 minutes: 0 when nothing waits,
--          infinite when it does not shrink, and no sample where nothing was ever assigned. Chats that were released without a reply come back
--          to the queue and count as arrivals there, those that were closed do not.
--          Arrivals are turns: a user's message that needs an operator, be it the first of a chat
--          or the first after the operator's. Handle time is that of replies, over the last hour;
--          without any there is no sample, unless there are no arrivals either: then 0.
-- Reads:   public.messages, public.chat_assignments, public.chats.
-- Cost:    in proportion to the messages and assignments of the last hour, hence every 60 s.
WITH RECURSIVE arrivals AS (
    SELECT
        count(*) AS last_hour,
        count(*) FILTER (WHERE m.created_at > now() - interval '10 minutes') AS last_10_minutes
    FROM public.messages AS m
    LEFT JOIN LATERAL (
        SELECT p.sender_type
        FROM public.messages AS p
        WHERE p.chat_id = m.chat_id AND p.created_at < m.created_at
        ORDER BY p.created_at DESC
        LIMIT 1
    ) AS previous ON true
    WHERE
        m.created_at > now() - interval '1 hour'
        AND m.created_at <= now()
        AND m.sender_type = 'real'
        AND previous.sender_type IS DISTINCT FROM 'real'
),

handled AS (
    SELECT
        avg(extract(EPOCH FROM a.released_at - a.assigned_at)) FILTER (
            WHERE a.released_at > a.assigned_at
            AND a.released_at <= now()
            AND a.release_reason = 'operator_sent_message'
        )::double precision AS mean_seconds,
        count(*) FILTER (
            WHERE a.released_at > now() - interval '10 minutes'
            AND a.released_at <= now()
            AND coalesce(a.release_reason, '') NOT IN
            ('operator_sent_message', 'real_user_replied_after_operator')
            AND coalesce(a.release_reason, '') NOT LIKE '%% - max reassignments reached'
        ) AS back_last_10_minutes,
        count(*) FILTER (
            WHERE a.assigned_at > now() - interval '10 minutes'
            AND (a.released_at IN (a.assigned_at, a.created_at)) IS NOT TRUE
        ) AS assigned_last_10_minutes
    FROM public.chat_assignments AS a
    WHERE a.assigned_at > now() - interval '1 hour' AND a.assigned_at <= now()
),

load AS (
    SELECT
        h.mean_seconds,
        r.last_hour / 3600.0::double precision * h.mean_seconds AS erlangs
    FROM arrivals AS r
    CROSS JOIN handled AS h
),

-- One number of operators after the other, until it keeps the objective. Only n > a is a queue that
-- settles at all; where the exponent is below what a double can hold, no user waits that long.
erlang_c AS (
    SELECT
        0 AS operators,
        1.0::double precision AS blocked,
        false AS is_enough
    UNION ALL
    SELECT
        n.operators,
        n.blocked,
        n.operators > n.erlangs
        AND 1 - n.operators * n.blocked / (n.operators - n.erlangs * (1 - n.blocked))
        * exp(
            greatest(
                -(n.operators - n.erlangs) * %(slo_answer_within)s::double precision
                / n.mean_seconds,
                -700
            )
        ) >= %(slo_objective)s::double precision AS is_enough
    FROM (
        SELECT
            c.operators + 1 AS operators,
            l.erlangs,
            l.mean_seconds,
            l.erlangs * c.blocked / (c.operators + 1 + l.erlangs * c.blocked) AS blocked
        FROM erlang_c AS c
        CROSS JOIN load AS l
        WHERE l.erlangs > 0 AND NOT c.is_enough AND c.operators < 20000
    ) AS n
),

required AS (
    SELECT min(c.operators) AS operators
    FROM erlang_c AS c
    WHERE c.is_enough
),

waiting AS (
    SELECT count(*) AS chats
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
)

SELECT
    CASE WHEN r.last_hour = 0 THEN 0 ELSE n.operators END AS operators_required,
    CASE
        WHEN w.chats = 0 THEN 0
        WHEN NOT EXISTS (SELECT FROM public.chat_assignments) THEN NULL
        WHEN h.assigned_last_10_minutes <= r.last_10_minutes + h.back_last_10_minutes
            THEN 'infinity'
        ELSE w.chats * 600.0::double precision
            / (h.assigned_last_10_minutes - r.last_10_minutes - h.back_last_10_minutes)
    END AS queue_drain_seconds
FROM waiting AS w
CROSS JOIN load AS l
CROSS JOIN required AS n
CROSS JOIN arrivals AS r
CROSS JOIN handled AS h
