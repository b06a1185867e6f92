-- The user of an answered chat wrote again.
UPDATE public.chats
SET chat_state = 'waiting_assignment',
    assigned_operator_id = NULL,
    assignment_time = NULL,
    last_message_at = now()
WHERE id = %(chat)s
