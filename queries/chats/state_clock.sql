-- The chats behind state_clock.
--
-- Reasons: waiting, overdue:warning, overdue:critical.
-- Asked:   always; every other list takes the chats' ages from here.
SELECT
    a.chat_id,
    array_remove(
        ARRAY[
            CASE WHEN a.state = 'waiting_assignment' THEN 'waiting' END,
            CASE WHEN a.is_overdue THEN 'overdue:warning' END,
            CASE WHEN a.is_critically_overdue THEN 'overdue:critical' END
        ],
        NULL
    ) AS reasons,
    a.since,
    NULL::timestamptz AS unanswered_since
FROM aged AS a
