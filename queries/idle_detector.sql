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
                        WHEN p.value #>> '{}' ~ '^\s*\d{1,9}(\.\d+)?\s*$'
                            THEN (p.value #>> '{}')::double precision
                    END
                FROM public.platform_config AS p
                WHERE p.key = 'idle_timeout_minutes'
            ),
            5
        ) * 60 AS idle_timeout_seconds
)

SELECT
    setting.idle_timeout_seconds,
    (
        SELECT count(*)
        FROM public.chats AS c
        LEFT JOIN public.operator_activity AS h
            ON h.chat_id = c.id AND h.operator_id = c.assigned_operator_id
        WHERE
            c.chat_state = 'assigned'
            AND c.is_active
            AND c.assigned_operator_id IS NOT NULL
            AND extract(
                EPOCH FROM now() - coalesce(h.updated_at, c.assignment_time, c.created_at)
            ) > setting.idle_timeout_seconds + %(idle_grace)s::double precision
    ) AS idle_overdue_chats
FROM setting
