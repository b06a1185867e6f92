-- Stuck chats, as the platform's own function gives them.
--
-- Purpose: the platform's answer by state. It counts from updated_at, which any update resets, and
--          takes in chats whose user never wrote back; state_clock has the true time in a state.
-- Reads:   public.detect_stuck_chats(integer), which reads public.chats with this role's rights.
-- Cost:    one pass over all active chats and a row for each found. About 1.0 s at 1,000,000 chats
--          of which 698,000 are found, hence every 60 s. Fails on PostgreSQL 13 (type mismatch
--          inside the platform's function); the other queries go on.
WITH stuck AS (
    SELECT
        d.chat_id,
        CASE
            WHEN d.chat_state IN
                ('waiting_assignment', 'assigned', 'waiting_real_user_reply', 'completed')
                THEN d.chat_state
            ELSE 'unknown'
        END AS state
    FROM public.detect_stuck_chats(%(stuck_hours)s::integer) AS d
)

SELECT
    s.state,
    count(*) AS stuck_chats
FROM stuck AS s
GROUP BY s.state
