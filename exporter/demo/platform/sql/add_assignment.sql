INSERT INTO public.chat_assignments (chat_id, operator_id, assigned_at)
VALUES (%(chat)s, %(operator)s, now())
