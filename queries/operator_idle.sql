-- How long the available operator who has waited longest for a chat has been without one.
--
-- Purpose: operators who are there and get nothing while users wait: the assignment passes them by,
--          or they are available and take none. Available is as in operators.sql:
--          active, says so, holds no assigned chat, and has shown life within the idle timeout.
--          An operator last had a chat when the latest assignment ended, by whatever reason; one
--          that was never ended counts from its beginning, an operator without any from the account.
--          The platform does not record when an operator comes online: one who returns has been
--          without a chat since before leaving, hence the wait of the alert. 0 when none is available.
--          A time in the future or infinite says nothing.
-- Reads:   public.operators, public.chats, public.chat_assignments, public.platform_config.
-- Cost:    in proportion to the operators and the assignments of the last day (index on assigned_at),
--          and to all assignments of those who are available and had none for a day, hence every 60 s.
--          At 1,300,000 assignments, 43,000 of them of the last day, as much as fairness.sql.
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

available AS (
    SELECT
        o.id,
        CASE
            WHEN o.created_at > '-infinity' AND o.created_at <= now() THEN o.created_at
        END AS created_at
    FROM public.operators AS o
    CROSS JOIN setting
    WHERE
        o.is_active
        AND o.is_available
        AND o.last_activity >= now() - setting.idle_timeout
        AND o.last_activity <= now() + interval '1 minute'
        AND NOT EXISTS (
            SELECT
            FROM public.chats AS c
            WHERE c.assigned_operator_id = o.id AND c.chat_state = 'assigned' AND c.is_active
        )
),

today AS (
    SELECT
        a.operator_id,
        max(
            CASE
                WHEN a.released_at <= now() THEN greatest(a.assigned_at, a.released_at)
                ELSE a.assigned_at
            END
        ) AS had_at
    FROM public.chat_assignments AS a
    WHERE a.assigned_at > now() - interval '1 day' AND a.assigned_at <= now()
    GROUP BY a.operator_id
),

-- The subquery runs only for those whom the last day does not know.
without AS (
    SELECT
        coalesce(
            t.had_at,
            (
                SELECT max(a.released_at)
                FROM public.chat_assignments AS a
                WHERE
                    a.operator_id = v.id
                    AND a.released_at > '-infinity'
                    AND a.released_at <= now()
            ),
            v.created_at
        ) AS since
    FROM available AS v
    LEFT JOIN today AS t ON t.operator_id = v.id
)

SELECT coalesce(extract(EPOCH FROM now() - min(w.since)), 0) AS idle_max_seconds
FROM without AS w
