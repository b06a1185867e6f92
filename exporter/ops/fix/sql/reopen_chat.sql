UPDATE public.chats
SET is_active = true, chat_state = 'waiting_assignment', assignment_time = NULL
WHERE id = %(chat)s AND is_active IS NOT TRUE AND assigned_operator_id IS NULL
RETURNING id
