-- Second: close the assignment.
UPDATE public.chat_assignments
SET released_at = now(), release_reason = %(reason)s
WHERE id = %(assignment)s AND released_at IS NULL
RETURNING id
