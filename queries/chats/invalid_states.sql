-- The chats behind invalid_states.
--
-- Reasons: invalid:lost_reply, invalid:orphaned_assignment,
--          invalid:assigned_without_operator, invalid:reply_without_timestamp,
--          invalid:completed_but_active, invalid:unknown_state.
-- Asked:   by its name only, for it reads all active chats.
SELECT
    k.chat_id,
    array_agg('invalid:' || k.name ORDER BY k.name) AS reasons,
    NULL::timestamptz AS since,
    NULL::timestamptz AS unanswered_since
FROM contradictions AS k
GROUP BY k.chat_id
