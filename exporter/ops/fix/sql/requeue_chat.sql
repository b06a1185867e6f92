UPDATE public.chats
SET chat_state = 'waiting_assignment', assignment_time = NULL
WHERE id = %(chat)s AND is_active AND assigned_operator_id IS NULL
RETURNING id
