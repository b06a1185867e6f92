-- Queue status, as the platform's own function gives it.
--
-- Purpose: the platform's answer, kept beside the true values so that the two can be compared.
--          Both waits count from the chat's creation and are 0 here when nothing waits. Where a
--          chat's creation is infinite, the function fails before PostgreSQL 17; later it answers
--          with an infinite wait, which is no sample here.
-- Reads:   public.get_assignment_queue_status(), which reads public.chats with this role's rights.
-- Cost:    one pass over all active chats. About 0.15 s at 1,000,000 chats, hence every 60 s.
SELECT
    q.total_waiting AS waiting_chats,
    q.total_assigned AS assigned_chats,
    q.total_waiting_reply AS waiting_reply_chats,
    CASE
        WHEN q.oldest_waiting_chat IS NULL THEN 0
        WHEN isfinite(q.oldest_waiting_chat)
            THEN greatest(extract(EPOCH FROM now() - q.oldest_waiting_chat), 0)
    END AS oldest_age_seconds,
    CASE
        WHEN q.average_wait_time_minutes::text !~* 'inf|nan'
            THEN greatest(q.average_wait_time_minutes * 60, 0)
        WHEN q.average_wait_time_minutes IS NULL THEN 0
    END AS mean_age_seconds
FROM public.get_assignment_queue_status() AS q
