-- FOR UPDATE and no weaker lock: an insert in flight into chat_assignments or
-- operator_activity holds only a key-share lock on the chat, and only FOR UPDATE conflicts with it.
SELECT id
FROM public.chats
WHERE id = %(chat)s
FOR UPDATE SKIP LOCKED
