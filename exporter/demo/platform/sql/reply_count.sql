-- The trigger of the message has counted it already.
UPDATE public.operators
SET total_messages = total_messages + 1, last_activity = now()
WHERE id = %(operator)s
