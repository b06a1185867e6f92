UPDATE public.chats
SET chat_state = 'completed',
    is_active = false,
    assigned_operator_id = NULL,
    assignment_time = NULL
WHERE id = %(chat)s
