INSERT INTO public.operator_activity (chat_id, operator_id)
VALUES (%(chat)s, %(operator)s)
ON CONFLICT (chat_id, operator_id) DO UPDATE SET last_activity = now()
