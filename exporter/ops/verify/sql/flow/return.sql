-- The user of an answered chat writes again.
UPDATE public.chats
SET chat_state = 'waiting_assignment',
    assigned_operator_id = NULL,
    assignment_time = NULL,
    last_message_at = now(),
    message_count = message_count + 1
WHERE id = %(chat)s AND chat_state = 'waiting_real_user_reply' AND is_active = true
RETURNING id
