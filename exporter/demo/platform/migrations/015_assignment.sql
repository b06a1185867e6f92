-- How a chat comes to an operator and how it is taken from one.

CREATE OR REPLACE FUNCTION public.assign_chat_to_operator(p_operator_id uuid) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    v_operator public.operators%ROWTYPE;
    v_chat_id uuid;
BEGIN
    SELECT * INTO v_operator FROM operators WHERE id = p_operator_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Operator not found';
    END IF;
    IF v_operator.is_active IS NOT TRUE THEN
        RAISE EXCEPTION 'Operator is not active';
    END IF;
    IF v_operator.is_available IS NOT TRUE THEN
        RAISE EXCEPTION 'Operator is not available';
    END IF;
    IF EXISTS (
        SELECT 1 FROM chats
        WHERE assigned_operator_id = p_operator_id AND chat_state = 'assigned' AND is_active = true
    ) THEN
        RAISE EXCEPTION 'Operator already has an active assignment';
    END IF;

    SELECT id INTO v_chat_id
    FROM chats
    WHERE chat_state = 'waiting_assignment'
      AND is_active = true
      AND last_operator_id IS DISTINCT FROM p_operator_id
    ORDER BY created_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED;

    -- Better the same operator again than a user left waiting.
    IF v_chat_id IS NULL THEN
        SELECT id INTO v_chat_id
        FROM chats
        WHERE chat_state = 'waiting_assignment' AND is_active = true
        ORDER BY created_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED;
    END IF;
    IF v_chat_id IS NULL THEN
        RETURN NULL;
    END IF;

    UPDATE chats
    SET chat_state = 'assigned',
        assigned_operator_id = p_operator_id,
        assignment_time = now(),
        last_operator_id = p_operator_id
    WHERE id = v_chat_id;
    INSERT INTO chat_assignments (chat_id, operator_id, assigned_at)
    VALUES (v_chat_id, p_operator_id, now());
    INSERT INTO operator_activity (chat_id, operator_id, last_activity)
    VALUES (v_chat_id, p_operator_id, now())
    ON CONFLICT (chat_id, operator_id) DO UPDATE SET last_activity = EXCLUDED.last_activity;
    RETURN v_chat_id;
END;
$$;

-- Every past turn counts as a reassignment, an ordinary reply included, and the limit closes the
-- chat. Reads without a row lock, never looks at `chat_state`, and the cast of the setting fails
-- where it is a JSON string. Where it closes the chat it leaves the heartbeat row.
CREATE OR REPLACE FUNCTION public.release_and_reassign_chat(
    p_chat_id uuid, p_reason text DEFAULT 'manual_release'
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_operator_id uuid;
    v_max_reassignments integer;
    v_past_releases integer;
BEGIN
    SELECT assigned_operator_id INTO v_operator_id
    FROM public.chats
    WHERE id = p_chat_id AND is_active = true;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'Chat not found or not active';
    END IF;
    IF v_operator_id IS NULL THEN
        RAISE EXCEPTION 'Chat is not currently assigned';
    END IF;

    SELECT value::integer INTO v_max_reassignments
    FROM public.platform_config
    WHERE key = 'max_reassignments';
    SELECT count(*) INTO v_past_releases
    FROM public.chat_assignments
    WHERE chat_id = p_chat_id AND released_at IS NOT NULL;

    IF v_past_releases >= coalesce(v_max_reassignments, 3) THEN
        UPDATE public.chats
        SET chat_state = 'completed',
            is_active = false,
            assigned_operator_id = NULL,
            assignment_time = NULL
        WHERE id = p_chat_id;
        UPDATE public.chat_assignments
        SET released_at = now(),
            release_reason = p_reason || ' - max reassignments reached'
        WHERE chat_id = p_chat_id AND operator_id = v_operator_id AND released_at IS NULL;
        RETURN false;
    END IF;

    UPDATE public.chats
    SET chat_state = 'waiting_assignment', assigned_operator_id = NULL, assignment_time = NULL
    WHERE id = p_chat_id;
    UPDATE public.chat_assignments
    SET released_at = now(), release_reason = p_reason
    WHERE chat_id = p_chat_id AND operator_id = v_operator_id AND released_at IS NULL;
    DELETE FROM public.operator_activity
    WHERE chat_id = p_chat_id AND operator_id = v_operator_id;
    RETURN true;
END;
$$;
