-- So that there is an operator without a chat.
UPDATE public.chats AS c
SET assigned_operator_id = NULL, assignment_time = NULL
WHERE c.assigned_operator_id = (SELECT min(o.id::text)::uuid FROM public.operators AS o)
