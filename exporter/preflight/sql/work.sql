-- Before the fix a chat without an operator may wait for either side: these are at most so many.
SELECT
    count(*) FILTER (WHERE c.assigned_operator_id IS NULL) AS waiting,
    count(*) FILTER (WHERE c.assigned_operator_id IS NOT NULL) AS assigned
FROM public.chats AS c
WHERE c.is_active
