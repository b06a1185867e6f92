UPDATE public.chat_assignments
SET released_at = now(), release_reason = 'operator_sent_message'
WHERE chat_id = %(chat)s AND operator_id = %(operator)s AND released_at IS NULL
RETURNING id
