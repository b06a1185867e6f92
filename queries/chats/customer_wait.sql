-- The chats behind customer_wait.
--
-- Reasons: unanswered, empty.
-- Asked:   always; every other list takes from here since when a user is unanswered.
SELECT
    o.chat_id,
    array_remove(
        ARRAY[
            CASE WHEN o.is_owed THEN 'unanswered' END,
            CASE WHEN o.is_empty THEN 'empty' END
        ],
        NULL
    ) AS reasons,
    NULL::timestamptz AS since,
    o.unanswered_since
FROM open_chats AS o
WHERE o.is_owed OR o.is_empty
