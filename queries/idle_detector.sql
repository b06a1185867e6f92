-- Is the platform's own idle detector working?
--
-- Purpose: assigned chats that its job, which runs every minute, should have released by now. They
--          are chosen as the job chooses them: assignment_time is older than the idle timeout, and
--          so is the holder's last_activity, his last mouse or key input by his browser's clock; a
--          missing row counts as idle, a chat without an assignment_time never does. That a tab is
--          open and its heartbeat arrives is no excuse. Both have to be older by
--          thresholds.idle_grace as well. A setting that is no number counts as the platform's
--          default, 5 minutes.
-- Reads:   public.chats, public.operator_activity, public.platform_config.
-- Cost:    in proportion to the assigned chats.
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
        ) * 60 AS idle_timeout_seconds
),

-- One grouping rather than a join, for the reason that operators.sql gives.
sighted AS (
    SELECT
        c.id AS chat_id,
        c.assigned_operator_id AS operator_id,
        c.assignment_time AS held_since,
        NULL::timestamptz AS input_at
    FROM public.chats AS c
    WHERE
        c.chat_state = 'assigned'
        AND c.is_active
        AND c.assigned_operator_id IS NOT NULL
        AND c.assignment_time IS NOT NULL
    UNION ALL
    SELECT
        h.chat_id,
        h.operator_id,
        NULL AS held_since,
        h.last_activity AS input_at
    FROM public.operator_activity AS h
),

held AS (
    SELECT
        s.chat_id,
        greatest(max(s.held_since), max(s.input_at)) AS busy_at
    FROM sighted AS s
    GROUP BY s.chat_id, s.operator_id
    HAVING max(s.held_since) IS NOT NULL
),

overdue AS (
    SELECT h.chat_id
    FROM held AS h
    CROSS JOIN setting
    WHERE
        h.busy_at < now()
        - (setting.idle_timeout_seconds + %(idle_grace)s::double precision)
        * interval '1 second'
)

SELECT
    setting.idle_timeout_seconds,
    (SELECT count(*) FROM overdue) AS idle_overdue_chats
FROM setting
