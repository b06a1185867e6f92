-- What is shown of each listed chat; every list of this folder ends with it.
--
-- Purpose: state, age, operator. A chat that no clock of a list covers waits for its user, or its
--          state is unknown: its age is reply_clock's, by the same rule
--          (tests/contracts/test_chat_lists.py). An id that is no chat's is an operator's
--          (invalid_times) and has no state.
-- Reads:   public.chats, public.operators.
-- Cost:    two look-ups by primary key for each chat that is listed, at most %(chats_limit)s.
SELECT
    l.chat_id,
    l.reasons,
    CASE
        WHEN c.id IS NULL THEN NULL
        WHEN c.chat_state IN
            ('waiting_assignment', 'assigned', 'waiting_real_user_reply', 'completed')
            THEN c.chat_state
        ELSE 'unknown'
    END AS state,
    extract(EPOCH FROM now() - coalesce(l.since, c.since))::double precision AS age_seconds,
    extract(EPOCH FROM now() - l.unanswered_since)::double precision AS unanswered_seconds,
    c.operator_id,
    CASE WHEN %(operators_label)s::text = 'name' THEN o.name END AS operator_name
FROM (
    SELECT
        n.chat_id,
        n.reasons,
        n.since,
        n.unanswered_since
    FROM listed AS n
    ORDER BY coalesce(n.since, n.unanswered_since), n.chat_id
    LIMIT %(chats_limit)s::bigint
) AS l
-- OFFSET 0: an index look-up each, however many are listed.
LEFT JOIN LATERAL (
    SELECT
        c.id,
        c.chat_state,
        c.assigned_operator_id AS operator_id,
        CASE
            WHEN
                c.chat_state = 'waiting_real_user_reply'
                AND c.operator_replied_at > '-infinity'
                AND c.operator_replied_at <= (SELECT now())
                THEN c.operator_replied_at
            WHEN c.chat_state IN ('waiting_assignment', 'assigned') THEN NULL
            WHEN c.created_at > '-infinity' AND c.created_at <= (SELECT now()) THEN c.created_at
        END AS since
    FROM public.chats AS c
    WHERE c.id = l.chat_id
    OFFSET 0
) AS c ON true
LEFT JOIN LATERAL (
    SELECT o.name FROM public.operators AS o WHERE o.id = c.operator_id OFFSET 0
) AS o ON true
