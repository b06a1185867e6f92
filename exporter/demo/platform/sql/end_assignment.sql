UPDATE public.chat_assignments
SET released_at = now(), release_reason = %(reason)s
WHERE chat_id = %(chat)s AND operator_id = %(operator)s AND released_at IS NULL
