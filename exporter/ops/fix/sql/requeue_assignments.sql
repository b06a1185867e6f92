-- As the platform does when the user of an answered chat writes.
UPDATE public.chat_assignments
SET released_at = now(), release_reason = 'real_user_replied_after_operator'
WHERE chat_id = %(chat)s AND released_at IS NULL
RETURNING id
