-- How long users have been waiting for an answer the platform owes them.
--
-- Purpose: the longest run of unanswered user messages in a chat that waits or is assigned, from
--          its first message. This, and not any state, is what a user feels: an idle release or a
--          reassignment starts the state's clock again, never this one. facts/open_chats.sql says
--          which messages count.
--          A chat is put in the queue before anything is written in it: such a chat is owed
--          nothing, and is counted separately.
-- Reads:   the facts open_chats.
-- Cost:    that of the facts, which the queries of a poll share, and one pass over them.
SELECT
    count(*) FILTER (WHERE o.is_owed) AS unanswered_chats,
    coalesce(extract(EPOCH FROM now() - min(o.unanswered_since)), 0)
        AS customer_oldest_wait_seconds,
    count(*) FILTER (WHERE o.is_empty) AS empty_waiting_chats
FROM open_chats AS o
