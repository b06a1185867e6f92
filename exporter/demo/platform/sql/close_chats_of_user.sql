UPDATE public.chats
SET is_active = false, assigned_operator_id = NULL, assignment_time = NULL
WHERE real_user_id = %(user)s AND is_active = true
