-- The indexes from before the fix.

CREATE INDEX idx_chats_active ON public.chats (is_active) WHERE is_active = true;
CREATE INDEX idx_chats_assignment_queue ON public.chats (created_at)
    WHERE assigned_operator_id IS NULL AND is_active = true;
CREATE INDEX idx_chats_idle_detection ON public.chats (assignment_time, assigned_operator_id)
    WHERE assigned_operator_id IS NOT NULL AND is_active = true;
CREATE INDEX idx_chats_operator ON public.chats (assigned_operator_id);
CREATE INDEX idx_chats_real_user ON public.chats (real_user_id);
CREATE INDEX idx_chats_fictional_user ON public.chats (fictional_user_id);
CREATE INDEX idx_chat_assignments_assigned_at ON public.chat_assignments (assigned_at DESC);
CREATE INDEX idx_chat_assignments_chat ON public.chat_assignments (chat_id);
CREATE INDEX idx_chat_assignments_chat_time
    ON public.chat_assignments (chat_id, assigned_at DESC);
CREATE INDEX idx_chat_assignments_operator ON public.chat_assignments (operator_id);
CREATE INDEX idx_operator_activity_chat ON public.operator_activity (chat_id);
CREATE INDEX idx_operator_activity_last_activity ON public.operator_activity (last_activity);
CREATE INDEX idx_operator_activity_operator ON public.operator_activity (operator_id);
CREATE INDEX idx_messages_chat ON public.messages (chat_id);
CREATE INDEX idx_messages_chat_created ON public.messages (chat_id, created_at DESC);
CREATE INDEX idx_messages_created ON public.messages (created_at DESC);
CREATE INDEX idx_messages_operator ON public.messages (handled_by_operator_id)
    WHERE handled_by_operator_id IS NOT NULL;
CREATE INDEX idx_operators_active ON public.operators (is_active);
CREATE INDEX idx_operators_available ON public.operators (is_available);
CREATE INDEX idx_operators_email ON public.operators (email);
