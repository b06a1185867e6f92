-- Operators by what they are doing, each counted once.
--
-- Purpose: is an operator there? disabled: not active. on_chat: holds an assigned chat and shows life.
--          available: says so, holds none and shows life. stale: holds a chat or says available, but
--          shows no life for the platform's idle timeout. away: active, and neither of these.
--          Life on a chat is the heartbeat on the database's clock, or input by the browser's; a
--          chat without a heartbeat row counts from its assignment.
--          Available without a chat: the operator's own last_activity counts too.
--          A time more than a minute ahead of the database's clock, or infinite, is no life: it
--          would be one for ever.
-- Reads:   public.operators, public.operator_activity, public.chats, public.platform_config.
-- Cost:    in proportion to the operators and the assigned chats.
WITH setting AS (
    SELECT
        coalesce(
            (
                SELECT
                    CASE
                        WHEN p.value #>> '{}' ~ '^ *[0-9]{1,9}([.][0-9]+)? *$'
                            THEN (p.value #>> '{}')::double precision
                    END
                FROM public.platform_config AS p
                WHERE p.key = 'idle_timeout_minutes'
            ),
            5
        ) * interval '1 minute' AS idle_timeout
),

-- Chats and heartbeats meet in one grouping rather than a join: the planner takes the assigned chats
-- for one row, and would read every heartbeat again for each of them.
sighted AS (
    SELECT
        c.id AS chat_id,
        c.assigned_operator_id AS operator_id,
        coalesce(
            CASE WHEN c.assignment_time <= now() THEN c.assignment_time END,
            CASE WHEN c.created_at <= now() THEN c.created_at END,
            '-infinity'
        ) AS held_since,
        NULL::timestamptz AS beat_at
    FROM (
        SELECT
            a.id,
            a.created_at,
            a.assigned_operator_id,
            a.assignment_time,
            a.chat_state
        FROM public.chats AS a
        WHERE a.is_active AND a.assigned_operator_id IS NOT NULL
        OFFSET 0  -- as in facts/open_chats.sql
    ) AS c
    WHERE c.chat_state = 'assigned'
    UNION ALL
    SELECT
        h.chat_id,
        h.operator_id,
        NULL AS held_since,
        greatest(
            CASE WHEN h.updated_at <= now() + interval '1 minute' THEN h.updated_at END,
            CASE WHEN h.last_activity <= now() + interval '1 minute' THEN h.last_activity END
        ) AS beat_at
    FROM public.operator_activity AS h
),

held AS (
    SELECT
        g.operator_id,
        max(g.alive_at) AS alive_at
    FROM (
        SELECT
            s.operator_id,
            coalesce(max(s.beat_at), max(s.held_since)) AS alive_at
        FROM sighted AS s
        GROUP BY s.chat_id, s.operator_id
        HAVING max(s.held_since) IS NOT NULL
    ) AS g
    GROUP BY g.operator_id
),

judged AS (
    SELECT
        CASE
            WHEN o.is_active IS NOT TRUE THEN 'disabled'
            WHEN held.operator_id IS NULL AND o.is_available IS NOT TRUE THEN 'away'
            WHEN
                coalesce(
                    CASE
                        WHEN held.operator_id IS NOT NULL THEN held.alive_at
                        WHEN o.last_activity <= now() + interval '1 minute' THEN o.last_activity
                    END,
                    '-infinity'
                ) < now() - setting.idle_timeout
                THEN 'stale'
            WHEN held.operator_id IS NULL THEN 'available'
            ELSE 'on_chat'
        END AS status
    FROM public.operators AS o
    CROSS JOIN setting
    LEFT JOIN held ON held.operator_id = o.id
)

SELECT
    j.status,
    count(*) AS operators
FROM judged AS j
GROUP BY j.status
