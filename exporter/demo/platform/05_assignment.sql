-- The assignment before the fix: a chat without an operator waits, whoever spoke last.

-- The operator's last chat comes first, and nothing is locked, so two may be given the same one.
CREATE FUNCTION public.assign_chat_to_operator(p_operator_id uuid) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_chat_id uuid;
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM public.operators
        WHERE id = p_operator_id AND is_active = true AND is_available = true
    ) THEN
        RAISE EXCEPTION 'Operator not found or not available';
    END IF;

    SELECT c.id INTO v_chat_id
    FROM public.chats AS c
    LEFT JOIN (
        SELECT chat_id, max(assigned_at) AS last_at
        FROM public.chat_assignments
        WHERE operator_id = p_operator_id
        GROUP BY chat_id
    ) AS mine ON mine.chat_id = c.id
    WHERE c.assigned_operator_id IS NULL AND c.is_active = true
    ORDER BY mine.last_at DESC NULLS LAST, c.created_at
    LIMIT 1;
    IF v_chat_id IS NULL THEN
        RETURN NULL;
    END IF;

    UPDATE public.chats
    SET assigned_operator_id = p_operator_id, assignment_time = now()
    WHERE id = v_chat_id;
    INSERT INTO public.chat_assignments (chat_id, operator_id, assigned_at)
    VALUES (v_chat_id, p_operator_id, now());
    INSERT INTO public.operator_activity (chat_id, operator_id, last_activity)
    VALUES (v_chat_id, p_operator_id, now())
    ON CONFLICT (chat_id, operator_id) DO UPDATE SET last_activity = EXCLUDED.last_activity;
    RETURN v_chat_id;
END;
$$;

-- Knows no limit and closes no chat.
CREATE FUNCTION public.release_and_reassign_chat(
    p_chat_id uuid, p_reason text DEFAULT 'manual_release'
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.chat_assignments
    SET released_at = now(), release_reason = p_reason
    WHERE chat_id = p_chat_id AND released_at IS NULL;
    DELETE FROM public.operator_activity WHERE chat_id = p_chat_id;
    UPDATE public.chats
    SET assigned_operator_id = NULL, assignment_time = NULL
    WHERE id = p_chat_id AND is_active = true;
    RETURN FOUND;
END;
$$;
