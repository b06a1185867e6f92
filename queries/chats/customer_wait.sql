-- The chats behind customer_wait.
--
-- Reasons: unanswered, empty.
-- Asked:   always; every other list takes from here since when a user is unanswered.
SELECT
    j.chat_id,
    array_remove(
        ARRAY[
            CASE WHEN j.is_owed THEN 'unanswered' END,
            CASE WHEN j.is_empty THEN 'empty' END
        ],
        NULL
    ) AS reasons,
    NULL::timestamptz AS since,
    j.since AS unanswered_since
FROM judged AS j
WHERE j.is_owed OR j.is_empty
