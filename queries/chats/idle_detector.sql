-- The chats behind idle_detector.
--
-- Reasons: stuck:idle_detector.
-- Asked:   by default.
SELECT
    o.chat_id,
    ARRAY['stuck:idle_detector'] AS reasons,
    NULL::timestamptz AS since,
    NULL::timestamptz AS unanswered_since
FROM overdue AS o
