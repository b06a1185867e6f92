-- A heartbeat never touches `chats`, hence a lock of its own: fewer locked than visible means
-- that one is being written now.
WITH locked AS (
    SELECT h.id
    FROM public.operator_activity AS h
    WHERE h.chat_id = %(chat)s
    FOR UPDATE SKIP LOCKED
)

SELECT
    (SELECT array_agg(l.id) FROM locked AS l) AS locked,
    (
        SELECT array_agg(h.id) FROM public.operator_activity AS h WHERE h.chat_id = %(chat)s
    ) AS visible
