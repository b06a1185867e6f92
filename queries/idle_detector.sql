-- Is the platform's own idle detector working?
--
-- Purpose: assigned chats whose operator has shown no heartbeat, on the database's clock, for the
--          platform's idle timeout plus thresholds.idle_grace: its job, which runs every minute,
--          should have released them by now. A chat without a heartbeat row counts from its
--          assignment. A setting that is no number counts as the platform's default, 5 minutes.
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
        coalesce(c.assignment_time, c.created_at) AS held_since,
        NULL::timestamptz AS beat_at
    FROM public.chats AS c
    WHERE c.chat_state = 'assigned' AND c.is_active AND c.assigned_operator_id IS NOT NULL
    UNION ALL
    SELECT
        h.chat_id,
        h.operator_id,
        NULL AS held_since,
        h.updated_at AS beat_at
    FROM public.operator_activity AS h
),

held AS (
    SELECT coalesce(max(s.beat_at), max(s.held_since)) AS alive_at
    FROM sighted AS s
    GROUP BY s.chat_id, s.operator_id
    HAVING max(s.held_since) IS NOT NULL
)

SELECT
    setting.idle_timeout_seconds,
    (
        SELECT count(*)
        FROM held AS h
        WHERE
            extract(EPOCH FROM now() - h.alive_at)
            > setting.idle_timeout_seconds + %(idle_grace)s::double precision
    ) AS idle_overdue_chats
FROM setting
