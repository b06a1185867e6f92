INSERT INTO public.messages (chat_id, sender_type, content)
VALUES (%(chat)s, 'real', %(content)s)
