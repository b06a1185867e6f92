-- The chat that an operator holds; where a chat is given, only if it is that one.
SELECT id FROM public.chats
WHERE
    assigned_operator_id = %(operator)s
    AND chat_state = 'assigned'
    AND is_active = true
    AND (%(chat)s::uuid IS NULL OR id = %(chat)s)
LIMIT 1
