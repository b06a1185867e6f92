INSERT INTO public.messages (chat_id, sender_type, content, handled_by_operator_id)
VALUES (%(chat)s, 'fictional', %(content)s, %(operator)s)
