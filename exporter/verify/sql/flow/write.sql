-- A user opens a chat. It is older than any real one, so that the platform, which takes the oldest
-- first, takes this one and never looks at the next. The state is left to the column's default.
WITH opened AS (
    INSERT INTO public.chats (
        id, real_user_id, fictional_user_id, created_at, last_message_at, message_count,
        last_operator_id
    )
    VALUES (
        %(chat)s, %(user)s, %(persona)s, '0001-01-01 00:00+00'::timestamptz + %(days)s * interval '1 day',
        now(), 1, %(last_operator)s
    )
    RETURNING id
)

SELECT o.id FROM opened AS o
