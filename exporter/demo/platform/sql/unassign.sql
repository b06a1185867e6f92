UPDATE public.chats
SET chat_state = 'waiting_assignment', assigned_operator_id = NULL, assignment_time = NULL
WHERE id = %(chat)s
