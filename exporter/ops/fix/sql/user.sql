-- Whether the chat's user may come back at all: a blocked one may not.
--
-- Reads:  public.chats, public.real_users.
SELECT u.is_active AS is_user_active
FROM public.chats AS c
INNER JOIN public.real_users AS u ON u.id = c.real_user_id
WHERE c.id = %(chat)s
