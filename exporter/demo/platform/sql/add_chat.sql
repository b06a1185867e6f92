-- A chat waits in the queue before anything was written.
INSERT INTO public.chats (id, real_user_id, fictional_user_id)
VALUES (%(chat)s, %(user)s, %(persona)s)
ON CONFLICT DO NOTHING
