SELECT assigned_operator_id AS operator FROM public.chats WHERE id = %(chat)s
