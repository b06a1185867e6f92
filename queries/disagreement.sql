-- By how much the platform's own counts and ages differ from the true ones.
--
-- Purpose: none of them is trusted silently. All are read in one snapshot, so the counts must agree
--          to the chat: anything but 0 is a changed view or function, or chats of one that the
--          other does not see. The waits differ by design, for the platform counts them from the
--          chat's creation, and takes in chats without any message: the value says how far
--          it misleads today. There is none where an infinite creation makes the platform's so.
--          Each is the platform's value minus the true one.
-- Reads:   public.chat_state_summary, public.get_assignment_queue_status(), public.chats,
--          public.chat_assignments, public.messages.
-- Cost:    the view, the function and one more pass over the active chats; about 0.5 s at 1,000,000
--          chats, hence every 5 minutes.
WITH waiting AS (
    SELECT
        extract(
            EPOCH FROM now() - coalesce(
                greatest(released.at, unanswered.at),
                CASE
                    WHEN c.created_at > '-infinity' AND c.created_at <= now() THEN c.created_at
                END
            )
        ) AS age_seconds
    FROM public.chats AS c
    LEFT JOIN LATERAL (
        SELECT max(a.released_at) AS at
        FROM public.chat_assignments AS a
        WHERE a.chat_id = c.id AND a.released_at > '-infinity' AND a.released_at <= now()
    ) AS released ON true
    LEFT JOIN LATERAL (
        SELECT max(m.created_at) AS at
        FROM public.messages AS m
        WHERE m.chat_id = c.id AND m.sender_type = 'fictional' AND m.created_at <= now()
    ) AS answered ON true
    LEFT JOIN LATERAL (
        SELECT min(m.created_at) AS at
        FROM public.messages AS m
        WHERE
            m.chat_id = c.id
            AND m.sender_type = 'real'
            AND m.created_at > coalesce(answered.at, '-infinity')
            AND m.created_at <= now()
    ) AS unanswered ON true
    WHERE
        c.chat_state = 'waiting_assignment'
        AND c.is_active
        AND (
            unanswered.at IS NOT NULL
            OR EXISTS (SELECT 1 FROM public.messages AS m WHERE m.chat_id = c.id OFFSET 0)
        )
),

truth AS (
    SELECT
        count(*) FILTER (WHERE c.chat_state = 'waiting_assignment') AS waiting,
        count(*) FILTER (WHERE c.chat_state = 'assigned') AS assigned,
        count(*) FILTER (WHERE c.chat_state = 'waiting_real_user_reply') AS waiting_reply
    FROM public.chats AS c
    WHERE c.is_active
),

summary AS (
    SELECT
        coalesce(sum(s.count) FILTER (WHERE s.chat_state = 'waiting_assignment'), 0) AS waiting,
        coalesce(sum(s.count) FILTER (WHERE s.chat_state = 'assigned'), 0) AS assigned,
        coalesce(sum(s.count) FILTER (WHERE s.chat_state = 'waiting_real_user_reply'), 0)
            AS waiting_reply
    FROM public.chat_state_summary AS s
)

SELECT
    s.waiting - t.waiting AS summary_waiting_chats,
    s.assigned - t.assigned AS summary_assigned_chats,
    s.waiting_reply - t.waiting_reply AS summary_waiting_reply_chats,
    q.total_waiting - t.waiting AS queue_waiting_chats,
    q.total_assigned - t.assigned AS queue_assigned_chats,
    q.total_waiting_reply - t.waiting_reply AS queue_waiting_reply_chats,
    CASE
        WHEN isfinite(q.oldest_waiting_chat) IS NOT FALSE
            THEN coalesce(extract(EPOCH FROM now() - q.oldest_waiting_chat), 0)
            - coalesce((SELECT max(w.age_seconds) FROM waiting AS w), 0)
    END AS queue_oldest_age_seconds,
    CASE
        WHEN coalesce(q.average_wait_time_minutes::text, '0') !~* 'inf|nan'
            THEN coalesce(q.average_wait_time_minutes * 60, 0)
            - coalesce((SELECT avg(w.age_seconds) FROM waiting AS w), 0)
    END AS queue_mean_age_seconds
FROM public.get_assignment_queue_status() AS q
CROSS JOIN truth AS t
CROSS JOIN summary AS s
