-- The old assignment: the operator's own last chat first, and no lock.
SELECT id FROM public.chats
WHERE chat_state = 'waiting_assignment' AND is_active = true
ORDER BY last_operator_id IS DISTINCT FROM %(operator)s, created_at
LIMIT 1
