UPDATE public.chats
SET last_operator_id = %(latest_operator_id)s
WHERE id = %(chat)s AND last_operator_id IS NULL
RETURNING id
