UPDATE public.operator_activity
SET last_activity = now() - make_interval(secs => %(ago_s)s)
WHERE chat_id = %(chat)s AND operator_id = %(operator)s
