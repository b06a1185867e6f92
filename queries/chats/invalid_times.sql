-- The chats behind invalid_times.
--
-- Reasons: invalid:time_in_future, invalid:time_infinite.
-- Asked:   by its name only, for it reads all active chats.
SELECT
    k.chat_id,
    array_agg('invalid:' || k.name ORDER BY k.name) AS reasons,
    NULL::timestamptz AS since,
    NULL::timestamptz AS unanswered_since
FROM contradictions AS k
GROUP BY k.chat_id
