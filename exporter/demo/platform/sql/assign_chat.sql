UPDATE public.chats
SET chat_state = 'assigned',
    assigned_operator_id = %(operator)s,
    assignment_time = now(),
    last_operator_id = %(operator)s
WHERE id = %(chat)s
