-- A row that is visible and cannot be locked is being closed by somebody else.
WITH locked AS (
    SELECT a.id
    FROM public.chat_assignments AS a
    WHERE a.chat_id = %(chat)s AND a.released_at IS NULL
    FOR UPDATE SKIP LOCKED
)

SELECT
    (SELECT array_agg(l.id) FROM locked AS l) AS locked,
    (
        SELECT array_agg(a.id)
        FROM public.chat_assignments AS a
        WHERE a.chat_id = %(chat)s AND a.released_at IS NULL
    ) AS visible
