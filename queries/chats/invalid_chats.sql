-- The chats behind invalid_chats.
--
-- Reasons: invalid:assigned_without_open_assignment, invalid:several_open_assignments,
--          invalid:operator_mismatch, invalid:operator_on_several_chats,
--          invalid:inactive_operator, invalid:operator_on_unassigned_chat,
--          invalid:answered_but_waiting.
-- Asked:   by default.
SELECT
    k.chat_id,
    array_agg('invalid:' || k.name ORDER BY k.name) AS reasons,
    NULL::timestamptz AS since,
    NULL::timestamptz AS unanswered_since
FROM contradictions AS k
GROUP BY k.chat_id
