SELECT id FROM public.operator_activity
WHERE chat_id = %(chat)s AND operator_id = %(operator)s
