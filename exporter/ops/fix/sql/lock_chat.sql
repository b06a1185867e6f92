-- FOR UPDATE and no weaker lock: an assignment, a heartbeat's first row and a message in flight hold
-- only a key-share lock on the chat, and only FOR UPDATE waits for them and keeps them out.
SELECT id
FROM public.chats
WHERE id = %(chat)s
FOR UPDATE
