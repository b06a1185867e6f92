-- What holds for all chats: may heartbeats be believed, who is free, what else releases.
--
-- Reads:  operators, chats, operator_activity, chat_assignments, platform_config.
-- Cost:   in proportion to the assignments of one day, by the index on assigned_at: 16 ms at
--         86,000 of them, seen with 200,000 chats of which 60 are assigned.
--
-- Free is who could take a chat now: assign_chat_to_operator refuses whoever holds one, so the
-- operator of a stuck chat is never free himself.
SELECT
    extract(EPOCH FROM statement_timestamp())::double precision AS now_s,
    extract(EPOCH FROM pg_postmaster_start_time())::double precision AS server_started_s,
    (
        SELECT extract(EPOCH FROM max(h.updated_at))::double precision
        FROM public.operator_activity AS h
    ) AS latest_beat_s,
    (
        SELECT count(*)::integer
        FROM public.operators AS o
        WHERE
            o.is_active
            AND o.is_available
            AND NOT EXISTS (
                SELECT 1
                FROM public.chats AS c
                WHERE
                    c.assigned_operator_id = o.id AND c.is_active AND c.chat_state = 'assigned'
            )
    ) AS free_operators,
    (
        SELECT count(*)::integer
        FROM public.chat_assignments AS a
        WHERE
            a.assigned_at > statement_timestamp() - interval '1 day'
            AND a.released_at > statement_timestamp() - interval '10 minutes'
            AND a.release_reason LIKE 'idle\_timeout%%'
    ) AS idle_releases,
    (
        SELECT jsonb_typeof(f.value)
        FROM public.platform_config AS f
        WHERE f.key = 'max_reassignments'
    ) AS limit_type,
    (
        SELECT f.value #>> '{}'
        FROM public.platform_config AS f
        WHERE f.key = 'max_reassignments'
    ) AS limit_text
