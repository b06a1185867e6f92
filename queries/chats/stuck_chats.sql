-- The chats behind stuck_chats: the platform's own answer, which takes in chats whose user simply
-- never wrote back, often most of all chats.
--
-- Reasons: platform:stuck.
-- Asked:   by its name only, for it reads all active chats.
SELECT
    s.chat_id,
    ARRAY['platform:stuck'] AS reasons,
    NULL::timestamptz AS since,
    NULL::timestamptz AS unanswered_since
FROM stuck AS s
