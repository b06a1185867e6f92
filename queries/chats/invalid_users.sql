-- The chats behind invalid_users.
--
-- Reasons: invalid:closed_but_written_to, invalid:active_chat_of_blocked_user.
-- Asked:   by its name only, for it reads the users' messages of a day and all users.
SELECT
    k.chat_id,
    array_agg('invalid:' || k.name ORDER BY k.name) AS reasons,
    NULL::timestamptz AS since,
    NULL::timestamptz AS unanswered_since
FROM contradictions AS k
GROUP BY k.chat_id
