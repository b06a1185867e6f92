-- How many operators the present load needs, and how long the queue takes to empty.
--
-- Purpose: operators_required is the smallest number for which Erlang C gives the service level's
--          objective: P(wait <= T) = 1 - C(n, a) * exp(-(n - a) * T / h), with the load
--          a = arrivals * h in erlangs, h the mean handle time, T slo.answer_within. C comes from
--          Erlang B by the recursion B(0) = 1, B(n) = a B(n-1) / (n + a B(n-1)), and
--          C = n B / (n - a (1 - B)). Source: A. K. Erlang, 1917, as in R. B. Cooper, Introduction
--          to Queueing Theory, 2nd ed. 1981, sections 3.3 and 3.4. It takes users who never give up
--          and operators who hold one chat at a time, as the platform has it.
--          queue_drain is the queue over its net pace of the last 10 minutes: 0 when nothing waits,
--          infinite when it does not shrink. Chats that were released without a reply come back
--          to the queue and count as arrivals there.
--          Arrivals are turns: a user's message that needs an operator, be it the first of a chat
--          or the first after the operator's. Handle time is that of replies, over the last hour;
--          without any there is no sample.
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
        AND m.sender_type = 'real'
        AND previous.sender_type IS DISTINCT FROM 'real'
),

handled AS (
    SELECT
        avg(extract(EPOCH FROM a.released_at - a.assigned_at)) FILTER (
            WHERE a.released_at > a.assigned_at
            AND a.release_reason = 'operator_sent_message'
        )::double precision AS mean_seconds,
        count(*) FILTER (
            WHERE a.released_at > now() - interval '10 minutes'
            AND a.release_reason IS DISTINCT FROM 'operator_sent_message'
        ) AS back_last_10_minutes,
        count(*) FILTER (
            WHERE a.assigned_at > now() - interval '10 minutes'
            AND (a.released_at IS NULL OR a.released_at > a.assigned_at)
        ) AS assigned_last_10_minutes
    FROM public.chat_assignments AS a
    WHERE a.assigned_at > now() - interval '1 hour'
),

load AS (
    SELECT
        h.mean_seconds,
        r.last_hour / 3600.0::double precision * h.mean_seconds AS erlangs
    FROM arrivals AS r
    CROSS JOIN handled AS h
),

erlang_b AS (
    SELECT
        0 AS operators,
        1.0::double precision AS blocked
    UNION ALL
    SELECT
        b.operators + 1 AS operators,
        l.erlangs * b.blocked / (b.operators + 1 + l.erlangs * b.blocked) AS blocked
    FROM erlang_b AS b
    CROSS JOIN load AS l
    WHERE l.erlangs IS NOT NULL AND b.operators < least(10000, 2 * l.erlangs + 50)
),

-- Only n > a is a queue that settles at all.
required AS (
    SELECT min(b.operators) AS operators
    FROM erlang_b AS b
    CROSS JOIN load AS l
    WHERE
        b.operators > l.erlangs
        AND 1 - b.operators * b.blocked / (b.operators - l.erlangs * (1 - b.blocked))
        * exp(
            -(b.operators - l.erlangs) * %(slo_answer_within)s::double precision
            / greatest(l.mean_seconds, 1e-3)
        ) >= %(slo_objective)s::double precision
),

waiting AS (
    SELECT count(*) AS chats
    FROM public.chats AS c
    WHERE c.chat_state = 'waiting_assignment' AND c.is_active
)

SELECT
    CASE WHEN l.erlangs = 0 THEN 0 ELSE n.operators END AS operators_required,
    CASE
        WHEN w.chats = 0 THEN 0
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
