UPDATE public.chats
SET chat_state = 'waiting_real_user_reply',
    operator_replied_at = now(),
    assigned_operator_id = NULL,
    assignment_time = NULL,
    last_message_at = now(),
    message_count = message_count + 1
WHERE id = %(chat)s
RETURNING id
