-- The state of a chat becomes explicit. May be applied again where its columns were kept.

ALTER TABLE public.chats
    -- The state may be NULL: a check passes on NULL.
    ADD COLUMN IF NOT EXISTS chat_state text DEFAULT 'waiting_assignment'
        CONSTRAINT chats_chat_state_check CHECK (
            chat_state IN
            ('waiting_assignment', 'assigned', 'waiting_real_user_reply', 'completed')
        ),
    ADD COLUMN IF NOT EXISTS last_operator_id uuid
        REFERENCES public.operators (id) ON DELETE SET NULL,
    ADD COLUMN IF NOT EXISTS operator_replied_at timestamptz;

-- Who spoke last tells whose turn it is, and the latest assignment who had the chat.
UPDATE public.chats AS c
SET chat_state = CASE
        WHEN c.assigned_operator_id IS NOT NULL THEN 'assigned'
        WHEN m.sender_type = 'fictional' THEN 'waiting_real_user_reply'
        ELSE 'waiting_assignment'
    END,
    operator_replied_at = CASE WHEN m.sender_type = 'fictional' THEN m.created_at END,
    last_operator_id = a.operator_id
FROM public.chats AS b
LEFT JOIN (
    SELECT DISTINCT ON (chat_id) chat_id, sender_type, created_at
    FROM public.messages
    ORDER BY chat_id ASC, created_at DESC
) AS m ON m.chat_id = b.id
LEFT JOIN (
    SELECT DISTINCT ON (chat_id) chat_id, operator_id
    FROM public.chat_assignments
    ORDER BY chat_id ASC, assigned_at DESC
) AS a ON a.chat_id = b.id
WHERE b.id = c.id;

ALTER TABLE public.chats
    ADD CONSTRAINT chk_assigned_state_has_operator
        CHECK (chat_state <> 'assigned' OR assigned_operator_id IS NOT NULL),
    ADD CONSTRAINT chk_waiting_reply_has_timestamp
        CHECK (chat_state <> 'waiting_real_user_reply' OR operator_replied_at IS NOT NULL);

CREATE INDEX idx_chats_waiting_assignment ON public.chats (created_at)
    WHERE chat_state = 'waiting_assignment' AND is_active = true;
CREATE INDEX idx_chats_last_operator ON public.chats (last_operator_id, chat_state)
    WHERE is_active = true;
CREATE INDEX idx_chats_operator_replied ON public.chats (operator_replied_at)
    WHERE chat_state = 'waiting_real_user_reply';
