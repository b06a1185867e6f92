-- The chats behind reply_clock that are overdue.
--
-- Reasons: overdue:warning, overdue:critical.
-- Asked:   by its name only, for it reads all active chats.
SELECT
    k.chat_id,
    array_remove(
        ARRAY[
            CASE WHEN k.since < b.warning_at THEN 'overdue:warning' END,
            CASE WHEN k.since < b.critical_at THEN 'overdue:critical' END
        ],
        NULL
    ) AS reasons,
    k.since,
    NULL::timestamptz AS unanswered_since
FROM clocked AS k
CROSS JOIN bounds AS b
WHERE
    k.state = 'waiting_real_user_reply' AND (k.since < b.warning_at OR k.since < b.critical_at)
