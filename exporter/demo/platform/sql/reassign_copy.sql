-- A copy of the assignment, released already; the original row stays open for ever.
INSERT INTO public.chat_assignments
    (chat_id, operator_id, assigned_at, released_at, release_reason)
SELECT id, assigned_operator_id, assignment_time, now(), %(reason)s
FROM public.chats
WHERE id = %(chat)s AND assigned_operator_id IS NOT NULL
