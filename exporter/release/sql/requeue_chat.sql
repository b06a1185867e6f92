-- The platform's manual unassign, first of three: put the chat back in the queue.
UPDATE public.chats
SET chat_state = 'waiting_assignment', assigned_operator_id = NULL, assignment_time = NULL
WHERE id = %(chat)s AND assigned_operator_id = %(operator)s
RETURNING id
